/**
 * One end of a TCP connection, run in a namespace by `throughput()`. `receive ADDRESS PORT SKIP MEASURE` listens, lets
 * SKIP milliseconds pass from the first byte on, counts for MEASURE milliseconds and prints bytes a second;
 * `send ADDRESS PORT` sends until the other end is gone.
 */
const [role = "", address = "", port = "0", skip = "0", measure = "0"] = process.argv.slice(2);

if (role === "receive") {
  let first = 0;
  let begun = 0;
  let counted = 0;
  const server = Bun.listen({
    hostname: address,
    port: Number(port),
    socket: {
      data(socket, chunk) {
        const now = performance.now();
        if (first === 0) first = now;
        if (now - first < Number(skip)) return;
        if (begun === 0) begun = now;
        counted += chunk.length;
        if (now - begun < Number(measure)) return;
        process.stdout.write(`${Math.round((counted * 1000) / (now - begun))}\n`);
        socket.terminate();
        process.exit(0);
      },
    },
  });
  process.stdout.write(`${server.port}\n`);
} else {
  const chunk = new Uint8Array(64 << 10);
  const push = (socket: { write(bytes: Uint8Array): number }): void => {
    while (socket.write(chunk) === chunk.length);
  };
  await Bun.connect({
    hostname: address,
    port: Number(port),
    socket: { open: push, drain: push, data() {}, close: () => process.exit(0), error: () => process.exit(0) },
  });
}
