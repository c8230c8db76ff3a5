import { type BridgeLinkRequest, bridgeLink, VlanFlag } from "./bridge-vlan.ts";
import { wireTable } from "./wire-table.ts";

wireTable<unknown, BridgeLinkRequest>("bridge VLANs", bridgeLink, [
  [
    // bridge vlan add dev vethb vid 100-200
    "a range",
    {
      family: 7,
      index: 4,
      spec: {
        vlans: [
          { flags: VlanFlag.RANGE_BEGIN, id: 100 },
          { flags: VlanFlag.RANGE_END, id: 200 },
        ],
      },
    },
    "07000000 04000000 00000000 00000000 14001a00 08000200 08006400 08000200 1000c800",
  ],
  [
    // bridge vlan add dev br0 vid 5 pvid untagged self
    "of the bridge itself, untagged",
    { family: 7, index: 2, spec: { flags: 2, vlans: [{ flags: VlanFlag.PVID | VlanFlag.UNTAGGED, id: 5 }] } },
    "07000000 02000000 00000000 00000000 14001a00 06000000 02000000 08000200 06000500",
  ],
]);
