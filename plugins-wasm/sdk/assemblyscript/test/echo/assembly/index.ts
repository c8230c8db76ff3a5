// A guest for tests: reads its configuration and writes it again, every value decoded and encoded on the way.
import { conf, Json, Kind, Writer } from "../../../assembly";
import { stdout } from "../../../assembly/process";

function write(v: Json, key: string | null, out: Writer): void {
  if (v.kind == Kind.Object) {
    out.beginObject(key);
    for (let m = v.first; m.here; m = m.next) write(m, m.key, out);
    out.endObject();
  } else if (v.kind == Kind.List) {
    out.beginArray(key);
    for (let e = v.first; e.here; e = e.next) write(e, null, out);
    out.endArray();
  } else if (v.kind == Kind.Text) {
    out.text(key, v.text);
  } else {
    v.copyTo(out, key);
  }
}

const echoed = new Writer();
write(conf(), null, echoed);
stdout(echoed);
