/**
 * The container runtime of the node, over its CRI socket. The one asynchronous part of core: reconcile, `gc` and
 * `doctor` use it, an ADD never does. Import it lazily: connect and protobuf cost 30 ms of start-up.
 */
import { connect as connectSocket } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, ConnectError, createClient, type Interceptor, Code as RpcCode } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import {
  type Container,
  type ContainerConfigSchema,
  type ExecSyncResponse,
  type PodSandbox,
  PodSandboxConfigSchema,
  type PodSandboxStatusResponse,
  RuntimeService,
  type StatusResponse,
  type VersionResponse,
} from "../../proto/gen/cri_pb.ts";
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";

export type SandboxConfig = MessageInitShape<typeof PodSandboxConfigSchema>;
export type ContainerConfig = MessageInitShape<typeof ContainerConfigSchema>;

/** The calls of CRI v1 that are in use. Each throws `CniError`: 5 the socket is not there, 11 try again, 999 the runtime refused. */
export interface CriRuntime extends Disposable {
  readonly socketPath: string;
  version(): Promise<VersionResponse>;
  /** @param verbose with the runtime's own configuration, in `info` */
  status(verbose?: boolean): Promise<StatusResponse>;
  listPodSandbox(): Promise<PodSandbox[]>;
  /** undefined when the runtime knows no such sandbox, as during its ADD. Verbose: `netnsOf()` reads the answer. */
  podSandboxStatus(id: string, verbose?: boolean): Promise<PodSandboxStatusResponse | undefined>;
  /** @returns the sandbox's id, which is the container id of its CNI calls */
  runPodSandbox(config: SandboxConfig, handler?: string): Promise<string>;
  /** Ends with the CNI DEL; again is harmless. */
  stopPodSandbox(id: string): Promise<void>;
  removePodSandbox(id: string): Promise<void>;
  listContainers(sandboxId?: string): Promise<Container[]>;
  /** @returns the container's id */
  createContainer(sandboxId: string, container: ContainerConfig, sandbox: SandboxConfig): Promise<string>;
  startContainer(id: string): Promise<void>;
  stopContainer(id: string, timeoutSeconds: number): Promise<void>;
  removeContainer(id: string): Promise<void>;
  execSync(id: string, command: readonly string[], timeoutSeconds: number): Promise<ExecSyncResponse>;
}

export interface CriOptions {
  /** For calls that only look; 10 s unless told. Calls that make or end containers have 120 s more. */
  readonly timeoutMs?: number;
}

const workMs = 120_000;

/** CRI-O resets streams whose content type names an encoding; every runtime takes the plain one. */
const plainContentType: Interceptor = (next) => (request) => {
  request.header.set("content-type", "application/grpc");
  return next(request);
};

/**
 * A client of the runtime that listens on `socketPath`. It connects with the first call, so this cannot fail; dispose
 * of it, or the process does not end.
 */
export function openCri(socketPath: string, options: CriOptions = {}): CriRuntime {
  const lookMs = options.timeoutMs ?? 10_000;
  const baseUrl = "http://localhost";
  const session = new Http2SessionManager(baseUrl, {}, { createConnection: () => connectSocket(socketPath) });
  const transport = createGrpcTransport({ baseUrl, interceptors: [plainContentType], sessionManager: session });
  const client = createClient(RuntimeService, transport);

  /** One call with its deadline, its failure in our words. */
  async function call<T>(what: string, timeoutMs: number, work: (options: CallOptions) => Promise<T>): Promise<T> {
    try {
      return await work({ timeoutMs });
    } catch (thrown) {
      throw asCniError(what, socketPath, timeoutMs, thrown);
    }
  }
  const long = lookMs + workMs;

  return {
    socketPath,
    version: () => call("ask for its version", lookMs, (o) => client.version({}, o)),
    status: (verbose = false) => call("ask for its status", lookMs, (o) => client.status({ verbose }, o)),
    listPodSandbox: async () =>
      (await call("list the pod sandboxes", lookMs, (o) => client.listPodSandbox({}, o))).items,
    podSandboxStatus: async (podSandboxId, verbose = false) => {
      const ask = async (o: CallOptions): Promise<PodSandboxStatusResponse | undefined> => {
        try {
          return await client.podSandboxStatus({ podSandboxId, verbose }, o);
        } catch (thrown) {
          if (ConnectError.from(thrown).code === RpcCode.NotFound) return undefined;
          throw thrown;
        }
      };
      return await call(`ask for sandbox ${show(podSandboxId)}`, lookMs, ask);
    },
    runPodSandbox: async (config, runtimeHandler = "") => {
      const full = create(PodSandboxConfigSchema, config);
      const name = show(`${full.metadata?.namespace}/${full.metadata?.name}`);
      return (await call(`run pod ${name}`, long, (o) => client.runPodSandbox({ config: full, runtimeHandler }, o)))
        .podSandboxId;
    },
    stopPodSandbox: async (podSandboxId) => {
      await call(`stop sandbox ${show(podSandboxId)}`, long, (o) => client.stopPodSandbox({ podSandboxId }, o));
    },
    removePodSandbox: async (podSandboxId) => {
      await call(`remove sandbox ${show(podSandboxId)}`, long, (o) => client.removePodSandbox({ podSandboxId }, o));
    },
    listContainers: async (podSandboxId = "") => {
      const filter = { filter: { podSandboxId } };
      return (await call("list the containers", lookMs, (o) => client.listContainers(filter, o))).containers;
    },
    createContainer: async (podSandboxId, config, sandboxConfig) => {
      const request = { podSandboxId, config, sandboxConfig };
      return (
        await call(`create a container in ${show(podSandboxId)}`, long, (o) => client.createContainer(request, o))
      ).containerId;
    },
    startContainer: async (containerId) => {
      await call(`start container ${show(containerId)}`, long, (o) => client.startContainer({ containerId }, o));
    },
    stopContainer: async (containerId, seconds) => {
      const request = { containerId, timeout: BigInt(seconds) };
      await call(`stop container ${show(containerId)}`, long, (o) => client.stopContainer(request, o));
    },
    removeContainer: async (containerId) => {
      await call(`remove container ${show(containerId)}`, long, (o) => client.removeContainer({ containerId }, o));
    },
    execSync: (containerId, command, seconds) => {
      const request = { containerId, cmd: [...command], timeout: BigInt(seconds) };
      return call(`run a command in ${show(containerId)}`, lookMs + seconds * 1000, (o) => client.execSync(request, o));
    },
    [Symbol.dispose]: () => session.abort(),
  };
}

/**
 * The path of a sandbox's network namespace, from a verbose status: in containerd's and CRI-O's own `info` document it
 * is in the OCI runtime's specification. undefined when the document does not say, as for a pod on the host's network.
 */
export function netnsOf(status: PodSandboxStatusResponse): string | undefined {
  let info: { runtimeSpec?: { linux?: { namespaces?: { type?: unknown; path?: unknown }[] } } };
  try {
    info = JSON.parse(status.info.info ?? "{}");
  } catch {
    return undefined; // the runtime's own format: unreadable says as little as absent
  }
  const network = info.runtimeSpec?.linux?.namespaces?.find((one) => one.type === "network");
  return typeof network?.path === "string" && network.path !== "" ? network.path : undefined;
}

function asCniError(what: string, socketPath: string, timeoutMs: number, thrown: unknown): CniError {
  const rpc = ConnectError.from(thrown);
  const text = `Cannot ${what} at container runtime ${show(socketPath)}`;
  const fail = (code: Code, found: string, remedy: string): CniError =>
    new CniError(code, `${text}: ${found}`, { remedy, cause: thrown });
  const errno = /\b(ENOENT|ECONNREFUSED|EACCES|ENOTSOCK|ENOTDIR)\b/.exec(`${rpc.rawMessage} ${String(rpc.cause)}`)?.[1];
  if (errno === "ENOENT" || errno === "ENOTDIR") {
    return fail(
      Code.IoFailure,
      "found no such socket",
      "Name the socket of the node's container runtime, or start the runtime",
    );
  }
  if (errno === "EACCES") return fail(Code.IoFailure, "permission denied", "Run it as root");
  if (errno !== undefined)
    return fail(Code.IoFailure, `nothing listens there (${errno})`, "Start the container runtime");
  switch (rpc.code) {
    case RpcCode.DeadlineExceeded:
      return fail(
        Code.TryAgainLater,
        `no answer after ${timeoutMs} ms`,
        "Try again when the container runtime answers",
      );
    case RpcCode.Unavailable:
    case RpcCode.Canceled:
    case RpcCode.Aborted:
      return fail(
        Code.TryAgainLater,
        `it closed the connection (${rpc.rawMessage})`,
        "Try again when the container runtime answers",
      );
    case RpcCode.Unimplemented:
      return fail(Code.Internal, "it does not serve CRI v1", "Use a container runtime that serves CRI v1");
    default:
      return fail(Code.Internal, rpc.rawMessage, "Look into the log of the container runtime");
  }
}
