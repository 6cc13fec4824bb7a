// What a page reads when it opens: the value, or the problem, and a way to read again.
import type { ReactiveController, ReactiveControllerHost } from "lit";
import { asProblem, type Problem } from "../api/problem";

export class Loader<T> implements ReactiveController {
  value: T | undefined;
  problem: Problem | null = null;
  loading = false;
  #turn = 0;

  constructor(
    private host: ReactiveControllerHost,
    private load: () => Promise<T>,
  ) {
    host.addController(this);
  }

  hostConnected(): void {
    void this.reload();
  }

  reload = async (): Promise<void> => {
    const turn = ++this.#turn;
    this.loading = true;
    this.host.requestUpdate();
    try {
      const value = await this.load();
      // An answer that was overtaken says nothing any more.
      if (turn !== this.#turn) return;
      this.value = value;
      this.problem = null;
    } catch (error) {
      if (turn === this.#turn) this.problem = asProblem(error);
    } finally {
      if (turn === this.#turn) {
        this.loading = false;
        this.host.requestUpdate();
      }
    }
  };
}
