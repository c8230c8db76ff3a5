/** The plugins that the binary carries, and the engine that runs them: what a process has once, for all its operations. */
import { CniError, Code } from "../base/error.ts";
import type { BuiltIn } from "../delegate/node.ts";
import { Engine, type Module } from "../engine/engine.ts";
import { type EmbeddedLibrary, findLibrary } from "../engine/library.ts";
import { carriedManifest } from "../policy/manifest.ts";
import { readEmbedded } from "../sys/files.ts";

/** A built-in as the binary carries it. */
export interface EmbeddedPlugin {
  readonly manifestText: string;
  readonly artifactPath: string;
  readonly sha256: string;
}

export class BuiltIns implements Disposable {
  readonly #library: EmbeddedLibrary;
  readonly #carried: Readonly<Record<string, EmbeddedPlugin>>;
  readonly #stack = new DisposableStack();
  readonly #known = new Map<string, BuiltIn>();
  readonly #modules = new Map<string, Module>();
  #engine: Engine | undefined;

  constructor(library: EmbeddedLibrary, carried: Readonly<Record<string, EmbeddedPlugin>>) {
    this.#library = library;
    this.#carried = carried;
  }

  has(type: string): boolean {
    return Object.hasOwn(this.#carried, type);
  }

  get(type: string): BuiltIn | undefined {
    const known = this.#known.get(type);
    if (known !== undefined) return known;
    const carried = this.has(type) ? this.#carried[type] : undefined;
    if (carried === undefined) return undefined;
    const plugin: BuiltIn = {
      manifest: carriedManifest(carried.manifestText),
      sha256: carried.sha256,
      artifact: () => readEmbedded(carried.artifactPath),
    };
    this.#known.set(type, plugin);
    return plugin;
  }

  /** Loaded when first asked for. @throws {CniError} 5 */
  engine(): Engine {
    if (this.#engine === undefined) {
      try {
        using library = findLibrary(this.#library);
        this.#engine = this.#stack.use(Engine.open(library));
      } catch (cause) {
        throw new CniError(
          Code.IoFailure,
          `Cannot load the engine that runs built-in plugins: ${cause instanceof Error ? cause.message : cause}`,
          {
            remedy: "Make a directory where files may be executed: .patchbay beside the binary, or /var/lib/patchbay",
            cause,
          },
        );
      }
    }
    return this.#engine;
  }

  module(plugin: BuiltIn): Module {
    let module = this.#modules.get(plugin.sha256);
    if (module === undefined) {
      module = this.#stack.use(this.engine().load(plugin.artifact()));
      this.#modules.set(plugin.sha256, module);
    }
    return module;
  }

  [Symbol.dispose](): void {
    this.#modules.clear();
    this.#stack[Symbol.dispose]();
  }
}
