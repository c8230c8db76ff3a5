/** Pictures in a terminal: a table, and two pods with what connects them. */

export interface PodPort {
  readonly ifname: string;
  readonly kind: string;
  /** With prefix length. */
  readonly address: string;
  readonly mac: string;
}

export interface PodNetworks {
  readonly name: string;
  readonly ports: readonly PodPort[];
}

/** Columns as wide as their widest cell. @param head painted as a whole line. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  paintHead: (line: string) => string = (line) => line,
): string {
  const widths = head.map((cell, i) => Math.max(cell.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return [paintHead(line(head)), ...rows.map(line), ""].join("\n");
}

interface Pen {
  readonly corners: readonly [string, string, string, string];
  readonly across: string;
  readonly down: string;
  /** Where a cable leaves a box to the right, and enters one from the left. */
  readonly plugs: readonly [string, string];
}
const lines: Pen = { corners: ["┌", "┐", "└", "┘"], across: "─", down: "│", plugs: ["├", "┤"] };
const ascii: Pen = { corners: ["+", "+", "+", "+"], across: "-", down: "|", plugs: ["+", "+"] };

/**
 * Two pods side by side, a cable for each interface that both have.
 *
 * @param between By interface: what the cable is, and who made it.
 */
export function drawPods(
  left: PodNetworks,
  right: PodNetworks,
  between: Readonly<Record<string, readonly [how: string, by: string]>>,
  unicode: boolean,
): string {
  const pen = unicode ? lines : ascii;
  const [topLeft, topRight, bottomLeft, bottomRight] = pen.corners;
  const text = (port: PodPort): readonly [string, string] => [
    `${port.ifname}  ${port.address}`,
    `${" ".repeat(port.ifname.length)}  ${port.mac}`,
  ];
  const width = Math.max(
    ...[left, right].flatMap((pod) => pod.ports.flatMap((port) => text(port).map((t) => t.length))),
  );
  const gap = Math.max(...Object.values(between).flatMap(([how, by]) => [how.length + 2, by.length])) + 4;
  const edge = pen.across.repeat(width + 2);
  const blank = " ".repeat(gap);
  const title = (pod: PodNetworks): string => ` pod "${pod.name}" `.padEnd(width + 2, pen.across);
  const rows = [`${topLeft}${title(left)}${topRight}${blank}${topLeft}${title(right)}${topRight}`];
  for (const port of left.ports) {
    const other = right.ports.find((p) => p.ifname === port.ifname);
    if (other === undefined) continue;
    const [how, by] = between[port.ifname] ?? ["", ""];
    const [[a, aMac], [b, bMac]] = [text(port), text(other)];
    const cable = centred(` ${how} `, gap, pen.across);
    rows.push(
      `${pen.down} ${a.padEnd(width)} ${pen.plugs[0]}${cable}${pen.plugs[1]} ${b.padEnd(width)} ${pen.down}`,
      `${pen.down} ${aMac.padEnd(width)} ${pen.down}${centred(by, gap, " ")}${pen.down} ${bMac.padEnd(width)} ${pen.down}`,
    );
  }
  rows.push(`${bottomLeft}${edge}${bottomRight}${blank}${bottomLeft}${edge}${bottomRight}`, "");
  return rows.join("\n");
}

function centred(text: string, width: number, fill: string): string {
  const before = Math.floor((width - text.length) / 2);
  return fill.repeat(before) + text + fill.repeat(width - text.length - before);
}
