import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import * as http2 from "node:http2";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ConnectError, Code as RpcCode, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { PodSandboxState, PodSandboxStatusResponseSchema, RuntimeService } from "../../proto/gen/cri_pb.ts";
import { CniError, Code } from "../base/error.ts";
import { netnsOf, openCri } from "./client.ts";

const clean: (() => void)[] = [];
afterEach(() => {
  for (const step of clean.splice(0).reverse()) step();
});

function socketPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "patchbay-cri-"));
  clean.push(() => rmSync(directory, { recursive: true }));
  return join(directory, "cri.sock");
}

async function listen(server: net.Server, path: string): Promise<void> {
  const open = new Set<net.Socket>();
  server.on("connection", (socket: net.Socket) => open.add(socket));
  await new Promise<void>((done) => server.listen(path, done));
  clean.push(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
}

/** A runtime that, like CRI-O, resets every stream whose content type is not exactly "application/grpc". */
async function fakeRuntime(service: Partial<ServiceImpl<typeof RuntimeService>>): Promise<string> {
  const path = socketPath();
  const handler = connectNodeAdapter({ routes: (router) => router.service(RuntimeService, service) });
  const server = http2.createServer((request, response) => {
    if (request.headers["content-type"] === "application/grpc") handler(request, response);
    else response.stream.close(http2.constants.NGHTTP2_PROTOCOL_ERROR);
  });
  await listen(server as unknown as net.Server, path);
  return path;
}

async function failure(work: Promise<unknown>): Promise<CniError> {
  const thrown = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (thrown instanceof CniError) return thrown;
  throw new Error(`expected a CniError, got ${String(thrown)}`);
}

describe("openCri()", () => {
  test("calls a runtime that insists on the plain content type", async () => {
    const seen: string[] = [];
    const path = await fakeRuntime({
      version: () => ({ runtimeName: "fake", runtimeVersion: "1" }),
      listPodSandbox: () => ({ items: [{ id: "a", state: PodSandboxState.SANDBOX_NOTREADY }, { id: "b" }] }),
      runPodSandbox: (request) => {
        seen.push(`${request.config?.metadata?.name} ${JSON.stringify(request.config?.annotations)}`);
        return { podSandboxId: "made" };
      },
      stopPodSandbox: (request) => {
        seen.push(`stop ${request.podSandboxId}`);
        return {};
      },
      execSync: (request) => ({ stdout: new TextEncoder().encode(request.cmd.join(" ")), exitCode: 3 }),
    });
    using cri = openCri(path);
    expect(await cri.version()).toMatchObject({ runtimeName: "fake", runtimeVersion: "1" });
    expect((await cri.listPodSandbox()).map((pod) => [pod.id, pod.state])).toEqual([
      ["a", PodSandboxState.SANDBOX_NOTREADY],
      ["b", PodSandboxState.SANDBOX_READY],
    ]);
    expect(await cri.runPodSandbox({ metadata: { name: "p", namespace: "d" }, annotations: { k: "v" } })).toBe("made");
    await cri.stopPodSandbox("made");
    const ended = await cri.execSync("c", ["echo", "x"], 1);
    expect([Buffer.from(ended.stdout).toString(), ended.exitCode]).toEqual(["echo x", 3]);
    expect(seen).toEqual(['p {"k":"v"}', "stop made"]);
  });

  test("answers undefined for a sandbox that the runtime does not know", async () => {
    const path = await fakeRuntime({
      podSandboxStatus: () => {
        throw new ConnectError("not found", RpcCode.NotFound);
      },
    });
    using cri = openCri(path);
    expect(await cri.podSandboxStatus("gone")).toBeUndefined();
  });

  test("reports what the runtime says", async () => {
    const path = await fakeRuntime({
      runPodSandbox: () => {
        throw new ConnectError('failed to setup network: plugin type="x" failed', RpcCode.Unknown);
      },
    });
    using cri = openCri(path);
    const error = await failure(cri.runPodSandbox({ metadata: { name: "p", namespace: "d" } }));
    expect(error.code).toBe(Code.Internal);
    expect(error.message).toBe(
      `Cannot run pod "d/p" at container runtime ${JSON.stringify(path)}: failed to setup network: plugin type="x" failed`,
    );
  });

  test("names a socket that is not there", async () => {
    using cri = openCri("/nowhere/at/all.sock");
    const error = await failure(cri.version());
    expect(error.code).toBe(Code.IoFailure);
    expect(error.message).toBe(
      'Cannot ask for its version at container runtime "/nowhere/at/all.sock": found no such socket',
    );
    expect(error.remedy).toMatch(/^Name the socket/);
  });

  test("a peer that closes is a reason to try again", async () => {
    const path = socketPath();
    await listen(
      net.createServer((socket) => socket.end()),
      path,
    );
    using cri = openCri(path, { timeoutMs: 5_000 });
    const error = await failure(cri.version());
    expect(error.code).toBe(Code.TryAgainLater);
    expect(error.message).toContain("it closed the connection");
  });

  test("a mute peer ends with the deadline", async () => {
    const path = socketPath();
    await listen(
      net.createServer(() => undefined),
      path,
    );
    using cri = openCri(path, { timeoutMs: 200 });
    const begun = performance.now();
    const error = await failure(cri.version());
    expect(error.code).toBe(Code.TryAgainLater);
    expect(error.message).toContain("no answer after 200 ms");
    expect(performance.now() - begun).toBeLessThan(3_000);
  });

  test("a runtime without CRI v1 is named as such", async () => {
    using cri = openCri(await fakeRuntime({}));
    expect((await failure(cri.version())).message).toContain("it does not serve CRI v1");
  });
});

describe("netnsOf()", () => {
  test.each([
    [
      "containerd's document",
      '{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/x"}]}}}',
      "/run/netns/x",
    ],
    ["the host's network", '{"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"}]}}}', undefined],
    ["no document", undefined, undefined],
    ["not JSON", "{", undefined],
  ])("%s", (_, info, want) => {
    const status = create(PodSandboxStatusResponseSchema, { info: info === undefined ? {} : { info } });
    expect(netnsOf(status)).toBe(want);
  });
});
