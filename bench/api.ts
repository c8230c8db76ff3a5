/**
 * A Kubernetes API server that answers at once, as far as Multus asks: its pod, its NetworkAttachmentDefinitions, and
 * 200 to every write. What it costs Multus is then the client's own.
 */

export interface FakeApi extends Disposable {
  readonly url: string;
  /** Requests answered so far. */
  readonly requests: number;
}

/** @param annotations of every pod. @param networks the configuration of each NetworkAttachmentDefinition, by name. */
export function startApi(
  annotations: Readonly<Record<string, string>>,
  networks: Readonly<Record<string, unknown>>,
): FakeApi {
  let requests = 0;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      requests++;
      const path = new URL(request.url).pathname.split("/");
      const [kind, name = ""] = path.slice(-2);
      if (request.method !== "GET") {
        await request.arrayBuffer();
        // Clients write protobuf but read JSON too: the kind is all that they look at.
        return Response.json({ kind: path.includes("events") ? "Event" : "Pod", apiVersion: "v1", metadata: {} });
      }
      const metadata = { name, namespace: path.at(-3) };
      if (kind === "pods") {
        return Response.json({
          kind: "Pod",
          apiVersion: "v1",
          metadata: { ...metadata, uid: `uid-${name}`, annotations },
        });
      }
      if (kind === "network-attachment-definitions" && name in networks) {
        const spec = { config: JSON.stringify(networks[name]) };
        return Response.json({ kind: "NetworkAttachmentDefinition", apiVersion: "k8s.cni.cncf.io/v1", metadata, spec });
      }
      return Response.json({ kind: "Status", apiVersion: "v1", status: "Failure", code: 404 }, { status: 404 });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    get requests() {
      return requests;
    },
    [Symbol.dispose]: () => void server.stop(true),
  };
}

/** A kubeconfig that leads there. */
export function kubeconfig(url: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "bench", cluster: { server: url } }],
    users: [{ name: "bench", user: {} }],
    contexts: [{ name: "bench", context: { cluster: "bench", user: "bench" } }],
    "current-context": "bench",
  });
}
