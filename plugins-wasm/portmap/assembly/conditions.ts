// conditionsV4 and conditionsV6: what the reference adds to its rules as it stands, of iptables or of nft(8). Of both
// languages this reads source and destination addresses; anything else is refused, since nothing may be left out of it.
import { conf, decimal, fail, parseCidr, parseIp, PortMapCondition } from "../../sdk/assemblyscript/assembly";

function isSource(word: string): bool {
  return word == "-s" || word == "--source" || word == "--src" || word == "saddr";
}

function isDestination(word: string): bool {
  return word == "-d" || word == "--destination" || word == "--dst" || word == "daddr";
}

export class Conditions {
  list: PortMapCondition[] = [];
  private key: string = "";
  private family: i32 = 0;

  constructor(private backend: string) {}

  read(key: string, family: i32): void {
    this.key = key;
    this.family = family;
    const words: string[] = [];
    for (let e = conf().arr(key).first; e.here; e = e.next) {
      const parts = e.text.split(" ");
      for (let i = 0; i < parts.length; i++) if (parts[i] != "") words.push(parts[i]);
    }
    if (words.length == 0) return;
    const language = words[0].startsWith("-") || words[0] == "!" ? "iptables" : "nftables";
    if (this.backend != "" && this.backend != language) {
      fail(7, 'Cannot use "' + key + '" with the backend "' + this.backend + '": it is written for ' + language, 'Leave out "backend"');
    }
    let i = 0;
    while (i < words.length) i = language == "iptables" ? this.iptables(words, i) : this.nftables(words, i);
  }

  private word(words: string[], i: i32): string {
    return i < words.length ? words[i] : "";
  }

  private iptables(words: string[], start: i32): i32 {
    let i = start;
    const not = words[i] == "!";
    if (not) i++;
    return this.take(words, i, not);
  }

  /** `ip daddr != 192.0.2.0/24` */
  private nftables(words: string[], i: i32): i32 {
    const family = this.family == 4 ? "ip" : "ip6";
    if (words[i] != family) this.refuse(words[i]);
    const operator = this.word(words, i + 2);
    if (operator != "!=" && operator != "==") return this.take(words, i + 1, false);
    words[i + 2] = this.word(words, i + 1);
    return this.take(words, i + 2, operator == "!=");
  }

  /** A side and an address. */
  private take(words: string[], i: i32, not: bool): i32 {
    const side = this.word(words, i);
    if (!isSource(side) && !isDestination(side)) this.refuse(side);
    const condition = new PortMapCondition();
    condition.side = isSource(side) ? "source" : "destination";
    condition.not = not ? 1 : 0;
    condition.network = this.network(this.word(words, i + 1));
    this.list.push(condition);
    return i + 2;
  }

  private network(text: string): string {
    const ip = parseIp(text);
    if (ip && ip.family == this.family) return text + "/" + decimal(ip.bits);
    const cidr = parseCidr(text);
    if (cidr && cidr.ip.family == this.family) return text;
    this.refuse(text);
    return "";
  }

  private refuse(word: string): void {
    const what = word == "" ? "something is missing at its end" : '"' + word + '" is not understood';
    fail(
      7,
      'Cannot use "' + this.key + '": ' + what,
      'Use source and destination addresses alone, such as ["!", "-d", "192.0.2.0/24"]',
    );
  }
}
