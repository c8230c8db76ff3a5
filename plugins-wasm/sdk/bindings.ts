/**
 * The AssemblyScript side of the call table: one class a request, one function a call. The table's schemas are the
 * only source, so a member that a guest can write is one that the host reads.
 */
import type { Keys, Schema } from "../../core/policy/schema.ts";

/** What the bindings need of a row of the call table. */
export interface BoundCall {
  /** As the import is named: `link_create`. */
  readonly name: string;
  /** One line for the docstring. */
  readonly doc: string;
  readonly request: Keys;
}

const pascal = (name: string): string => name.replaceAll(/(?:^|_)([a-z])/g, (_, c: string) => c.toUpperCase());
const camel = (name: string): string => name.replaceAll(/_([a-z])/g, (_, c: string) => c.toUpperCase());
/** `routes` is a list of `Route`, `addresses` of `Address`. */
const singular = (name: string): string => name.replace(/(?<=s)es$|s$/, "");
const upperFirst = (name: string): string => name.slice(0, 1).toUpperCase() + name.slice(1);

/** Type and initial value of a member, and the statement that writes it. */
function member(key: string, s: Schema, owner: string): { type: string; initial: string; write: string; also: string } {
  const at = `"${key}", this.${key}`;
  switch (s.type) {
    case "boolean":
      return { type: "i32", initial: "UNSET", write: `w.flag(${at});`, also: "" };
    case "integer":
      return { type: "i64", initial: "ABSENT", write: `w.integer(${at});`, also: "" };
    case "string":
      return { type: "string | null", initial: "null", write: `w.text(${at});`, also: "" };
    case "object": {
      const name = owner + upperFirst(key);
      const write = `const ${key}_ = this.${key};\n    if (${key}_) {\n      w.beginObject("${key}");\n      ${key}_.write(w);\n      w.endObject();\n    }`;
      return { type: `${name} | null`, initial: "null", write, also: requestClass(name, s.keys, "") };
    }
    case "array": {
      if (s.items.type === "string")
        return { type: "string[] | null", initial: "null", write: `w.texts(${at});`, also: "" };
      if (s.items.type !== "object")
        throw new Error(`Cannot bind "${key}": no array of ${s.items.type} in AssemblyScript`);
      const name = owner + singular(upperFirst(key));
      const write = `const ${key}_ = this.${key};\n    if (${key}_) {\n      w.beginArray("${key}");\n      for (let i = 0; i < ${key}_.length; i++) {\n        w.beginObject();\n        ${key}_[i].write(w);\n        w.endObject();\n      }\n      w.endArray();\n    }`;
      return { type: `${name}[] | null`, initial: "null", write, also: requestClass(name, s.items.keys, "") };
    }
    default:
      return {
        type: "Json | null",
        initial: "null",
        write: `const ${key}_ = this.${key};\n    if (${key}_) ${key}_.copyTo(w, "${key}");`,
        also: "",
      };
  }
}

function requestClass(name: string, keys: Keys, doc: string): string {
  const members = Object.entries(keys).map(([key, s]) => ({ key, s, ...member(key, s, name) }));
  const fields = members.map(
    ({ key, s, type, initial }) => `  ${s.doc ? `/** ${s.doc} */\n  ` : ""}${key}: ${type} = ${initial};\n`,
  );
  const writes = members.map((m) => `    ${m.write}\n`);
  return `${members.map((m) => m.also).join("")}${doc}export class ${name} {
${fields.join("")}
  write(w: Writer): void {
${writes.join("")}  }
}

`;
}

/** The text of `calls.generated.ts`. */
export function assemblyScriptBindings(calls: readonly BoundCall[]): string {
  const parts = [
    "// Generated from the call table: do not edit.\n",
    'import { Answer } from "./answer";\nimport { Json } from "./json";\nimport { ABSENT, UNSET, Writer } from "./writer";\n\n',
  ];
  for (const { name, doc, request } of calls) {
    const type = pascal(name);
    parts.push(
      `@external("patchbay_1", "${name}")\ndeclare function import_${name}(request: usize, length: i32): i32;\n\n`,
      requestClass(type, request, `/** Request of \`${name}\`. */\n`),
      `/** ${doc} */\nexport function ${camel(name)}(request: ${type}): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_${name}(w.start, w.length));
}

`,
    );
  }
  return `${parts.join("").trimEnd()}\n`;
}
