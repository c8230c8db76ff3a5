/** An OCI image of one static busybox, as a layout in a tar that `ctr images import` reads: no registry, no build tool. */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

/** Ours alone: a name that no registry serves. */
export const imageName = "patchbay.invalid/busybox:1";

interface Member {
  readonly path: string;
  readonly content?: Uint8Array;
  readonly linkTo?: string;
  readonly mode?: number;
}

/** The 512-byte ustar header. Source: POSIX.1-2017, pax, "ustar Interchange Format" */
function tarHeader(member: Member): Uint8Array {
  const header = Buffer.alloc(512);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;
  const type = member.linkTo !== undefined ? "2" : member.content === undefined ? "5" : "0";
  const size = member.content?.length ?? 0;
  header.write(member.path, 0, 100);
  header.write(octal(member.mode ?? 0o755, 7) + octal(0, 7) + octal(0, 7) + octal(size, 11) + octal(0, 11), 100);
  header.write(`        ${type}${member.linkTo ?? ""}`, 148); // the sum is taken with blanks in its own place
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

function tar(members: readonly Member[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const member of members) {
    parts.push(tarHeader(member));
    if (member.content !== undefined) parts.push(member.content, Buffer.alloc(-member.content.length & 511));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

/** Writes the layout to `path`. @param busybox a static busybox; it serves the pod's sandbox container too, as `sleep`. */
export function writeImage(path: string, busybox: string): void {
  const applets = Bun.spawnSync([busybox, "--list"])
    .stdout.toString()
    .split("\n")
    .filter((name) => /^[a-z0-9]+$/.test(name));
  const layer = tar([
    ...["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"].map((name) => ({ path: `${name}/` })),
    { path: "bin/busybox", content: readFileSync(busybox) },
    ...applets.filter((name) => name !== "busybox").map((name) => ({ path: `bin/${name}`, linkTo: "busybox" })),
    { path: "etc/passwd", content: Buffer.from("root:x:0:0::/root:/bin/sh\n"), mode: 0o644 },
  ]);
  const blobs: Member[] = [];
  const blob = (mediaType: string, content: Uint8Array): { mediaType: string; digest: string; size: number } => {
    const hash = createHash("sha256").update(content).digest("hex");
    blobs.push({ path: `blobs/sha256/${hash}`, content, mode: 0o644 });
    return { mediaType, digest: `sha256:${hash}`, size: content.length };
  };
  const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const platform = { architecture: process.arch === "arm64" ? "arm64" : "amd64", os: "linux" };
  const vendor = "application/vnd.oci.image";
  const layers = [blob(`${vendor}.layer.v1.tar+gzip`, gzipSync(layer))];
  const config = blob(
    `${vendor}.config.v1+json`,
    json({
      ...platform,
      config: { Cmd: ["/bin/sleep", "2147483647"], Env: ["PATH=/bin"] },
      rootfs: { type: "layers", diff_ids: [`sha256:${createHash("sha256").update(layer).digest("hex")}`] },
    }),
  );
  const manifestType = `${vendor}.manifest.v1+json`;
  const manifest = blob(manifestType, json({ schemaVersion: 2, mediaType: manifestType, config, layers }));
  const annotations = { "io.containerd.image.name": imageName, "org.opencontainers.image.ref.name": imageName };
  const index = {
    schemaVersion: 2,
    mediaType: `${vendor}.index.v1+json`,
    manifests: [{ ...manifest, platform, annotations }],
  };
  writeFileSync(
    path,
    tar([
      { path: "oci-layout", content: json({ imageLayoutVersion: "1.0.0" }), mode: 0o644 },
      { path: "index.json", content: json(index), mode: 0o644 },
      ...blobs,
    ]),
  );
}
