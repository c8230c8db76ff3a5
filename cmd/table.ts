/** Columns as wide as their widest cell, two blanks between, no blank at a line's end. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return `${all.map(line).join("\n")}\n`;
}

/** Names come from tenants: nothing in them may move the cursor of whoever reads. */
function printable(cell: string): string {
  return cell.replaceAll(/[^\x20-\x7e]/g, "?");
}
