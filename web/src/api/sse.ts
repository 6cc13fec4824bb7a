// Server-Sent Events out of bytes, as the HTML standard parses them (section 9.2.6). It opens no connection.

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

/** Feed it text as it comes, in pieces of any size; it gives the events that are whole. */
export class EventParser {
  #rest = "";
  #started = false;
  #id = "";
  #event = "";
  #data: string[] = [];

  feed(text: string): ServerEvent[] {
    if (!this.#started && text.length > 0) {
      text = text.replace(/^\uFEFF/, "");
      this.#started = true;
    }
    this.#rest += text;
    const events: ServerEvent[] = [];
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      if (end < 0) return events;
      // A carriage return at the very end may be half of a pair.
      if (this.#rest[end] === "\r" && end === this.#rest.length - 1) return events;
      const width = this.#rest.startsWith("\r\n", end) ? 2 : 1;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + width);
      const event = this.#line(line);
      if (event) events.push(event);
    }
  }

  #line(line: string): ServerEvent | undefined {
    if (line === "") {
      const data = this.#data.join("\n");
      const event = { id: this.#id, event: this.#event || "message", data };
      const empty = this.#data.length === 0;
      this.#event = "";
      this.#data = [];
      return empty ? undefined : event;
    }
    if (line.startsWith(":")) return undefined;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return undefined;
  }
}
