// One conversation that is open: its turns, its branches, and the runs that are followed while they are at work.
import { api, idempotencyKey } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import { followRun, pastEvents, type Connection } from "../api/stream";
import type { Accepted, Conversation, Message, Run, RunFrame } from "../api/types";
import { countApprovals } from "../app/badge";
import { Store } from "../app/store";
import { leafBelow, parent } from "./branches";
import * as conversations from "./conversations";
import { apply, detailed, newTurn, noteRun, over, turnsOf, type Turn } from "./turn";

export interface ThreadState {
  conversation: Conversation | null;
  turns: Turn[];
  runs: Run[];
  loading: boolean;
  problem: Problem | null;
  connection: Connection;
}

const EMPTY: ThreadState = {
  conversation: null,
  turns: [],
  runs: [],
  loading: true,
  problem: null,
  connection: "ended",
};

export class Thread {
  readonly state = new Store<ThreadState>(EMPTY);
  #followed = new Map<string, () => void>();
  #connections = new Map<string, Connection>();
  #enriching = new Set<string>();
  #drawing = false;
  #closed = false;

  constructor(readonly id: string) {}

  #change(part: Partial<ThreadState>): void {
    if (!this.#closed) this.state.value = { ...this.state.value, ...part };
  }

  /** Draws at most once a frame, however many events come. */
  #draw(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    const draw = () => {
      this.#drawing = false;
      this.#change({ turns: [...this.state.value.turns] });
    };
    if (document.visibilityState === "visible") requestAnimationFrame(draw);
    else setTimeout(draw, 100);
  }

  async open(leaf?: string): Promise<void> {
    this.#change({ loading: this.state.value.turns.length === 0, problem: null });
    try {
      const path = `/conversations/${this.id}`;
      // The runs first: of one that is over by then, messages and title are all there.
      const runs = await api.all<Run>(`${path}/runs`);
      const [conversation, messages] = await Promise.all([
        api.get<Conversation>(path),
        api.all<Message>(`${path}/messages`, { leaf }),
      ]);
      this.#stop();
      const turns = turnsOf(messages, runs);
      this.#change({ conversation, runs, turns, loading: false });
      // A run that ended before it could be followed told the list nothing.
      const { title, last_run_state } = conversation;
      conversations.note(this.id, { ...(title ? { title } : {}), ...(last_run_state ? { last_run_state } : {}) });
      for (const turn of turns) if (!over(turn)) this.#follow(turn);
    } catch (error) {
      this.#change({ problem: asProblem(error), loading: false });
    }
  }

  close(): void {
    this.#closed = true;
    this.#stop();
  }

  #stop(): void {
    for (const stop of this.#followed.values()) stop();
    this.#followed.clear();
    this.#connections.clear();
  }

  get active(): Turn | undefined {
    return this.state.value.turns.find((turn) => !over(turn));
  }

  #follow(turn: Turn): void {
    if (this.#followed.has(turn.run)) return;
    turn.parts = [];
    turn.detailed = true;
    const stop = followRun(turn.run, {
      frame: (frame) => this.#frame(turn, frame),
      connection: (state) => {
        this.#connections.set(turn.run, state);
        this.#change({ connection: this.#connection() });
      },
      failed: (problem) => {
        this.#connections.delete(turn.run);
        this.#change({ problem, connection: this.#connection() });
      },
    });
    this.#followed.set(turn.run, stop);
  }

  #connection(): Connection {
    const states = [...this.#connections.values()];
    return states.includes("resuming") ? "resuming" : states.includes("live") ? "live" : "ended";
  }

  #frame(turn: Turn, frame: RunFrame): void {
    if (frame.type === "title_update") {
      const title = String(frame.payload.title ?? "");
      conversations.note(this.id, { title });
      const { conversation } = this.state.value;
      if (conversation) this.#change({ conversation: { ...conversation, title } });
      return;
    }
    apply(turn, frame);
    if (frame.type.startsWith("approval.")) void countApprovals();
    if (frame.type === "run.done") {
      conversations.note(this.id, { last_run_state: turn.state });
      this.#note(turn);
    }
    this.#draw();
  }

  #note(turn: Turn): void {
    const runs = this.state.value.runs.map((run) => (run.id === turn.run ? { ...run, state: turn.state } : run));
    this.#change({ runs });
    // What the end of a run leaves out: whether older messages were left out of the context.
    api.get<Run>(`/runs/${turn.run}`).then(
      (run) => {
        noteRun(turn, run);
        this.#draw();
      },
      () => {},
    );
  }

  /** Reads what a turn's tool calls took and why they were allowed. */
  async enrich(turn: Turn): Promise<void> {
    if (turn.detailed || !over(turn) || this.#enriching.has(turn.run)) return;
    this.#enriching.add(turn.run);
    try {
      const better = detailed(turn, await pastEvents(turn.run));
      this.#change({ turns: this.state.value.turns.map((one) => (one.run === turn.run ? better : one)) });
    } catch {
      // The messages are shown without.
    }
  }

  /** Sends a message to the end of the branch that is shown, or as another version of `edited`. */
  async send(content: string, options: { edited?: string; interrupt?: boolean } = {}): Promise<void> {
    const { runs, turns } = this.state.value;
    const branched = runs.some((run) => run.parent_run_id !== undefined);
    const last = turns.at(-1)?.run;
    const before = options.edited === undefined ? last : (parent(runs, options.edited) ?? null);
    const body = {
      content,
      interrupt: options.interrupt ?? false,
      ...(branched && before !== undefined ? { parent_run_id: before } : {}),
    };
    const accepted = await api.post<Accepted>(`/conversations/${this.id}/messages`, body, idempotencyKey());
    conversations.note(this.id, { last_run_state: "running", updated_at: new Date().toISOString() });
    if (options.edited !== undefined) return this.open(accepted.run_id);
    await this.#added(accepted.run_id, content);
  }

  async #added(run: string, content: string): Promise<void> {
    const turn = newTurn(run, content, new Date().toISOString(), this.active ? "queued" : "running");
    this.#change({ turns: [...this.state.value.turns, turn] });
    this.#follow(turn);
    try {
      this.#change({ runs: await api.all<Run>(`/conversations/${this.id}/runs`) });
    } catch {
      // Read again when the branch is next switched.
    }
  }

  async regenerate(run: string): Promise<void> {
    const accepted = await api.post<Accepted>(`/runs/${run}/regenerate`, undefined, idempotencyKey());
    await this.open(accepted.run_id);
  }

  async show(run: string): Promise<string> {
    const leaf = leafBelow(this.state.value.runs, run);
    await this.open(leaf);
    return leaf;
  }

  async cancel(turn: Turn): Promise<void> {
    await api.post(`/runs/${turn.run}/cancel`);
    if (!over(turn)) turn.state = "cancelling";
    this.#draw();
  }

  async rename(title: string): Promise<void> {
    await conversations.rename(this.id, title);
    const { conversation } = this.state.value;
    if (conversation) this.#change({ conversation: { ...conversation, title } });
  }
}
