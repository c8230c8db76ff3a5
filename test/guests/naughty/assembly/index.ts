// A guest that does in one operation, its key `when`, what its key `does` says, after it has done its work as it should.
import {
  addrAdd,
  AddrAdd,
  conf,
  env,
  ipamAdd,
  linkCreate,
  linkList,
  linkOpen,
  linkSet,
  Address,
  noteSet,
  nftApply,
  plugin,
  Result,
  stderr,
} from "../../../../plugins-wasm/sdk/assemblyscript/assembly";

@external("patchbay_1", "link_list")
declare function rawList(request: usize, length: i32): i32;
@external("patchbay_1", "answer_read")
declare function rawRead(to: usize, capacity: i32): i32;
@external("wasi_snapshot_preview1", "poll_oneoff")
declare function poll(subscriptions: usize, events: usize, count: i32, written: usize): i32;
@external("wasi_snapshot_preview1", "fd_write")
declare function rawWrite(fd: i32, vectors: usize, count: i32, put: usize): i32;

/** `count` times 64 KiB of blanks to a descriptor. */
function flood(fd: i32): void {
  const block = heap.alloc(65536);
  memory.fill(block, 0x20, 65536);
  const vector = heap.alloc(12);
  store<u32>(vector, <u32>block);
  store<u32>(vector, 65536, 4);
  for (let i = 0; i < 64; i++) rawWrite(fd, vector, 1, vector + 8);
}

/** One clock subscription, as WASI lays it out: 48 bytes. */
function sleep(seconds: i64): void {
  const s = heap.alloc(48);
  memory.fill(s, 0, 48);
  store<u32>(s, 1, 16); // the monotonic clock
  store<u64>(s, seconds * 1000000000, 24);
  poll(s, heap.alloc(32), 1, heap.alloc(4));
}

function misbehave(): void {
  if (conf().str("when") != env("CNI_COMMAND")) return;
  const does = conf().str("does");
  if (does == "loop") while (true) {}
  if (does == "sleep") sleep(3600);
  if (does == "eat") while (memory.grow(16) >= 0) {}
  if (does == "eat") unreachable();
  if (does == "ask") while (true) linkList({ "in": "pod" });
  if (does == "write") flood(1);
  if (does == "log") flood(2);
  if (does == "point outside") rawList(0x7fff0000, 16);
  if (does == "point over the end") rawList(memory.size() * 65536 - 8, 16);
  if (does == "point at nothing") rawList(0, -1);
  if (does == "read outside") {
    linkList({ "in": "pod" });
    rawRead(0x7fff0000, 4096);
  }
  if (does == "take the uplink") linkSet({ link: linkOpen({ "in": "host", name: "uplink" }).must().int("link"), up: 0 }).must();
  if (does == "guess a handle") linkSet({ link: 4711, up: 0 }).must();
  if (does == "masquerade") nftApply({ rule: "masquerade" }).must();
  if (does == "trap") unreachable();
}

function add(): void {
  noteSet({ key: "began", value: "yes" }).must();
  const veth = linkCreate({ kind: "veth", "in": "pod", peer: { "in": "host" } }).must();
  const result = new Result().link(veth);
  for (let e = ipamAdd({}).must().arr("ips").first; e.here; e = e.next) {
    const address = e.str("address");
    addrAdd({ link: veth.int("link"), address: address }).must();
    result.ips.push(new Address(address, "", 0));
  }
  linkSet({ link: veth.int("link"), up: 1 }).must();
  misbehave();
  if (conf().str("when") == "ADD") {
    const does = conf().str("does");
    if (does == "lie about an address") result.ips.push(new Address("10.77.0.99/24", "", 0));
    if (does == "lie about a link") result.interfaces[0].name = "uplink";
    if (does == "lie about the pod") result.interfaces[0].sandbox = "/run/netns/other";
    if (does == "lie about a mac") result.interfaces[0].mac = "02:00:00:00:00:01";
    if (does == "say nothing") return;
  }
  result.emit();
}

plugin(add, { check: misbehave, del: misbehave });
