/** Runs in a namespace of a test, for `echo.ts`: a server that says who asked and on which port, or a client. */
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

const plain = (address: string | undefined): string => (address ?? "?").replace("::ffff:", "");
const [, , role, ...args] = process.argv;

if (role === "serve") {
  const [name, ...ports] = args;
  let waiting = ports.length * 2;
  const ready = (): void => {
    if (--waiting === 0) process.stdout.write("ready\n");
  };
  for (const port of ports.map(Number)) {
    const say = (address: string | undefined): string => `${name} ${plain(address)} ${port}`;
    createServer((socket) => {
      socket.on("error", () => {});
      socket.end(say(socket.remoteAddress));
    }).listen({ port, host: "::" }, ready);
    const udp = createSocket("udp6");
    udp.on("message", (_, from) => udp.send(say(from.address), from.port, from.address));
    udp.on("listening", ready);
    udp.bind(port, "::");
  }
} else {
  const wait = Number(args[0]);
  const answers = args.slice(1).map(
    (question) =>
      new Promise<string>((resolve) => {
        const [protocol, address = "", port, from] = question.split(" ");
        setTimeout(() => resolve("silence"), wait);
        if (protocol === "tcp") {
          const socket = connect({ host: address, port: Number(port) });
          let text = "";
          socket.on("data", (data) => (text += data.toString()));
          socket.on("end", () => resolve(text));
          socket.on("error", (error) => resolve(String((error as { code?: string }).code)));
          return;
        }
        const six = address.includes(":");
        const socket = createSocket({ type: six ? "udp6" : "udp4", ipv6Only: six });
        socket.on("message", (data) => resolve(data.toString()));
        socket.on("error", (error) => resolve(String((error as { code?: string }).code)));
        socket.bind(Number(from ?? 0), six ? "::" : "0.0.0.0", () => socket.send("?", Number(port), address));
      }),
  );
  process.stdout.write(JSON.stringify(await Promise.all(answers)));
  process.exit(0);
}
