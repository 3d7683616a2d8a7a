/** Names and numbers of the overlay's kernel objects. README.md lists them. */
export const GATEWAY_LINK = "oak0";
export const VXLAN_LINK = "oakvx";
export const TUN_LINK = "oaktun";
export const VXLAN_PORT = 50_103;
/** Link groups: what rules match instead of names, of which there is one a sandbox. */
export const SANDBOX_GROUP = 50_103;
export const TUN_GROUP = 50_104;
/** Upper half of the marks that are ours; the lower half is the peer's number. */
export const MARK_BASE = 0x0a1e_0000;
export const MARK_MASK = 0xffff_0000;
/** Our routes carry it, so that we find them again, and nobody else's. */
export const ROUTE_PROTOCOL = 103;
/** Routing table of a peer on a common link: this plus its number. */
export const TABLE_BASE = 50_300;
export const RULES_FROM = 18_000;
export const RULES_TO = 29_000;
/** Peers have numbers from 1 on; each has a rule between the two. */
export const MAX_PEER_NUMBER = 10_000;
/** Next hop of the service range through the tunnel: nobody's address, its MAC is replaced by the peer's on the way out. */
export const ANY_PEER_ADDRESS = "169.254.18.1";
export const ANY_PEER_MAC = "02:18:00:00:00:00";
/** Where copies of held packets are sent; nobody's address. */
export const MISS_ADDRESS = "169.254.18.2";
export const TUN_ADDRESS = "169.254.18.3";
export const VXLAN_ADDRESS = "169.254.18.4";
/** The worker's end of every sandbox link. */
export const SANDBOX_GATEWAY_MAC = "02:18:00:00:00:01";
export const GATEWAY_MAC = "02:18:00:00:00:02";

/** MAC that a peer has in the tunnel: its underlay address after 02:18. */
export const vxlanMac = (address: number): string => `02:18:${hex(address).match(/../g)!.join(":")}`;
export const peerMark = (number: number): string => `0x${hex(MARK_BASE + number)}`;

const hex = (value: number) => value.toString(16).padStart(8, "0");
