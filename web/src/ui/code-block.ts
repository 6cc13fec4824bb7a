// Turns a plain <pre> into a block with a bar, a copy button and colours. The colours come when their code is loaded.

export async function copy(text: string, button: HTMLElement): Promise<void> {
  const before = button.dataset.label ?? button.textContent ?? "Copy";
  button.dataset.label = before;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => {
    button.textContent = before;
  }, 1500);
}

export function dressCode(pre: HTMLPreElement): void {
  const code = pre.querySelector("code") ?? pre;
  const language = pre.dataset.language ?? "";
  const figure = document.createElement("figure");
  figure.className = "code";
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = language || "text";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain tiny";
  button.textContent = "Copy";
  button.addEventListener("click", () => void copy(code.textContent ?? "", button));
  caption.append(name, button);
  pre.replaceWith(figure);
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code${language ? ` in ${language}` : ""}`);
  figure.append(caption, pre);
  if (language) void colour(code, language);
}

export async function colour(code: Element, language: string): Promise<void> {
  const { highlight } = await import("../text/highlight");
  const content = highlight(code.textContent ?? "", language);
  // highlight.js escapes what it colours; its output has nothing but spans.
  if (content !== undefined) code.innerHTML = content;
}
