// A value that components watch. When it changes, those that watch it are drawn again.
import type { ReactiveController, ReactiveControllerHost } from "lit";

export class Store<T> {
  #value: T;
  #listeners = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Draws a component again whenever one of these stores changes. */
export class Watch implements ReactiveController {
  #unsubscribe: (() => void)[] = [];

  constructor(
    private host: ReactiveControllerHost,
    ...stores: Store<unknown>[]
  ) {
    this.#stores = stores;
    host.addController(this);
  }

  #stores: Store<unknown>[];

  hostConnected(): void {
    this.#unsubscribe = this.#stores.map((store) => store.subscribe(() => this.host.requestUpdate()));
  }

  hostDisconnected(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }
}
