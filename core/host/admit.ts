/** Whether a module may be installed: its imports and its manifest together show all that it can ever ask for. */
import { CniError, Code } from "../base/error.ts";
import type { Manifest } from "../policy/manifest.ts";
import { hostCalls, importModule } from "./calls.ts";

export interface ModuleImport {
  readonly module: string;
  readonly name: string;
}

/**
 * @param imports The module's imports; those of WASI are the engine's to judge.
 * @throws {CniError} 7 for an import that the ABI or the manifest does not have, and for a manifest that asks for what
 * no plugin can have.
 */
export function admit(manifest: Manifest, imports: readonly ModuleImport[]): void {
  const refuse = (why: string, remedy: string): CniError =>
    new CniError(Code.InvalidConfig, `Cannot admit plugin "${manifest.name}": ${why}`, { remedy });
  for (const [name, roles] of manifest.calls) {
    const call = hostCalls.find((c) => c.name === name);
    if (call === undefined)
      throw refuse(`its manifest names the call "${name}", which does not exist`, "Correct the manifest");
    const extra = roles.find((role) => !call.roles.includes(role));
    if (extra !== undefined) {
      throw refuse(
        `its manifest asks for "${name}" on "${extra}", which no plugin can have`,
        call.roles.length === 0 ? `Give "${name}" an empty list` : `Use ${call.roles.map((r) => `"${r}"`).join(", ")}`,
      );
    }
  }
  for (const i of imports) {
    if (i.module.startsWith("patchbay_") && i.module !== importModule) {
      throw refuse(
        `it imports from "${i.module}", and this host has "${importModule}"`,
        "Build it for this host's ABI",
      );
    }
    if (i.module !== importModule || i.name === "answer_read") continue;
    if (!hostCalls.some((c) => c.name === i.name)) {
      throw refuse(`it imports the call "${i.name}", which does not exist`, "Build it for this host's ABI");
    }
    if (!manifest.calls.has(i.name)) {
      throw refuse(`it imports the call "${i.name}", which its manifest does not name`, "Name it in the manifest");
    }
  }
}
