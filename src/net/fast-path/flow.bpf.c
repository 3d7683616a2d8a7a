/*
 * The fast path: packets of known flows are translated and sent on where they arrive, past the rules. ../README.md says which, and why
 * that is safe. scripts/gen-bpf.sh makes flow.gen.ts of it; descriptors of the maps are filled in when it is loaded.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
#include <linux/bpf.h>

/* Stands for the descriptor of a map: replaced by program.ts, in an instruction of its own. */
#define MAP(number)                                                                           \
  ({                                                                                          \
    void *map;                                                                                \
    asm volatile("%0 = %1 ll" : "=r"(map) : "i"(0x6f616b0000000000ULL | (number)));           \
    map;                                                                                      \
  })
#define FLOWS MAP(0)
#define SEEN MAP(1)
#define SETTINGS MAP(2)

#define CALL(name, number, result, ...) static result (*name)(__VA_ARGS__) = (void *)number
CALL(map_lookup, 1, void *, void *, const void *);
CALL(map_update, 2, long, void *, const void *, const void *, u64);
CALL(map_delete, 3, long, void *, const void *);
CALL(store_bytes, 9, long, struct __sk_buff *, u32, const void *, u32, u64);
CALL(replace_l4_sum, 11, long, struct __sk_buff *, u32, u64, u64, u64);
CALL(clone_redirect, 13, long, struct __sk_buff *, u32, u64);
CALL(random, 7, u32, void);
CALL(get_hash, 34, u32, struct __sk_buff *);
CALL(adjust_room, 50, long, struct __sk_buff *, int, u32, u64);
CALL(redirect_neigh, 152, long, u32, struct bpf_redir_neigh *, int, u64);
CALL(redirect_peer, 155, long, u32, u64);
CALL(coarse_ns, 160, u64, void);

#define htons(value) ((u16)__builtin_bswap16(value))
#define ntohl(value) ((u32)__builtin_bswap32(value))
/* TCX_NEXT: other programs of the link, then the rules. TCX_DROP. */
#define SLOW_PATH -1
#define DROP 2

#define FOR_US 0
#define ETHERNET 14
#define TCP 6
#define UDP 17
#define FIN_SYN_RST 0x07
#define SYN 0x02
#define VXLAN_PORT 50103
/* Outer IPv4, UDP, VXLAN and inner Ethernet header. */
#define TUNNEL_HEADERS 50

/* So often one packet of a flow takes the slow path, so that the connection table knows that it lives. */
#define REFRESH_NS 2000000000LL
/* After so long the connection table may have forgotten it: less than any of its time limits. */
#define IDLE_NS 15000000000LL
/* Packets after which the agent is told of a flow; then after twice as many, and so on. */
#define WORTH_IT 16
/* Then it is learnt anew: nothing that was missed, such as connections that another program deleted, counts for longer. */
#define LIFE_NS 30000000000LL
/* So often, and no more, in 17 ms, which is 480 times a second: a flood must not keep the agent busy. */
#define TOLD_A_WHILE 8
#define WHILE(ns) ((ns) >> 24)

enum { TO_SANDBOX = 1, TO_TUNNEL = 2, TO_NEIGHBOUR = 3 };

/* Layouts are those of flow-entries.ts. Addresses and ports as on the wire. */
struct key {
  u32 source, destination;
  u16 source_port, destination_port;
  u32 link;
  u8 sender[6];
  u8 protocol, unused;
};

struct flow {
  u64 generation;
  u64 refreshed_at;
  u32 source, destination;
  /* What the change of addresses adds to a checksum. */
  u32 difference;
  u32 action, link, mtu;
  u32 next_hop, outer_source, outer_destination;
  u8 ethernet[12];
  u64 learnt_at;
};

struct seen {
  u32 packets, told_at;
};

struct settings {
  /* Flows of others are of no use any more. */
  u64 generation;
  /* First and last address of the overlay, as numbers. */
  u32 from, to;
  /* Link on which the agent is told of flows; how often it was in this while. */
  u32 tun, told;
  u64 this_while;
};

struct ip_header {
  u8 version_and_length, tos;
  u16 length, id, fragment;
  u8 ttl, protocol;
  u16 checksum;
  u32 source, destination;
} __attribute__((packed, aligned(2)));

struct tunnel_header {
  struct ip_header ip;
  u16 source_port, destination_port, length, checksum;
  u32 flags, network;
  u8 ethernet[12];
  u16 type;
} __attribute__((packed, aligned(2)));

#define INLINE static inline __attribute__((always_inline))

INLINE u16 fold(u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (u16)sum;
}

/* Counts packets of flows that are not known, and tells the agent by a copy with IP version 0 of those that are worth knowing. */
INLINE int count(struct __sk_buff *skb, const struct key *key, struct settings *settings) {
  struct seen *seen = map_lookup(SEEN, key);
  if (!seen) {
    struct seen first = {1, WORTH_IT};
    map_update(SEEN, key, &first, BPF_ANY);
    return SLOW_PATH;
  }
  seen->packets++;
  /* A large one would be cut into many; others of the flow are small. */
  if (seen->packets < seen->told_at || skb->gso_size) return SLOW_PATH;
  u64 this_while = WHILE(coarse_ns());
  if (settings->this_while != this_while) {
    settings->this_while = this_while;
    settings->told = 0;
  }
  /* Then by a later packet. */
  if (settings->told++ >= TOLD_A_WHILE) return SLOW_PATH;
  seen->told_at = seen->packets * 2;
  u8 told = 0x05, plain = 0x45;
  store_bytes(skb, ETHERNET, &told, 1, 0);
  clone_redirect(skb, settings->tun, 0);
  store_bytes(skb, ETHERNET, &plain, 1, 0);
  return SLOW_PATH;
}

/* Addresses, time to live and both checksums, of the IPv4 packet that begins there. */
INLINE int translate(struct __sk_buff *skb, const struct flow *flow, u32 at) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ip_header *ip = data + at;
  if ((void *)(ip + 1) > end) return DROP;
  u8 protocol = ip->protocol;
  ip->source = flow->source;
  ip->destination = flow->destination;
  ip->ttl--;
  /* Of the word with time to live and protocol, one is taken off the first byte. */
  ip->checksum = ~fold((u64)(u16)~ip->checksum + flow->difference + (u16)~htons(0x0100));
  if (!flow->difference) return 0;
  if (protocol == TCP) return replace_l4_sum(skb, at + sizeof(*ip) + 16, 0, flow->difference, BPF_F_PSEUDO_HDR);
  return replace_l4_sum(skb, at + sizeof(*ip) + 6, 0, flow->difference, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
}

INLINE int send_by_tunnel(struct __sk_buff *skb, const struct flow *flow, u8 tos) {
  u32 hash = get_hash(skb);
  u16 length = (u16)(skb->len - ETHERNET);
  u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
              BPF_F_ADJ_ROOM_ENCAP_L2(ETHERNET) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
  /* Refused for what is a tunnel's packet already, as of a VXLAN between sandboxes: nothing has changed yet. */
  if (adjust_room(skb, TUNNEL_HEADERS, BPF_ADJ_ROOM_MAC, flags)) return SLOW_PATH;
  if (translate(skb, flow, ETHERNET + TUNNEL_HEADERS)) return DROP;
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct tunnel_header *outer = data + ETHERNET;
  if ((void *)(outer + 1) > end) return DROP;
  struct ip_header *ip = &outer->ip;
  /* RFC 3168, full functionality, as Linux does: the inner packet's marks; one that has met congestion starts anew as capable. */
  u8 ecn = (tos & 3) == 3 ? 2 : tos & 3;
  ip->version_and_length = 0x45;
  ip->tos = ecn;
  ip->length = htons((u16)(length + TUNNEL_HEADERS));
  /* It may be cut into fragments on the way, as the kernel's own tunnel packets may. */
  ip->id = (u16)random();
  ip->fragment = 0;
  ip->ttl = 64;
  ip->protocol = UDP;
  ip->source = flow->outer_source;
  ip->destination = flow->outer_destination;
  u64 sum = (0x45 | (u32)ecn << 8) + (u64)ip->length + ip->id + (64 | UDP << 8);
  ip->checksum = ~fold(sum + ip->source + ip->destination);
  /* Of the flow, as RFC 7348 wants it: the queues of network cards tell flows apart by it. */
  outer->source_port = htons((u16)(0xc000 | (hash & 0x3fff)));
  outer->destination_port = htons(VXLAN_PORT);
  outer->length = htons((u16)(length + TUNNEL_HEADERS - sizeof(struct ip_header)));
  outer->checksum = 0;
  outer->flags = 0x08;
  outer->network = ntohl(VXLAN_PORT << 8);
  __builtin_memcpy(outer->ethernet, flow->ethernet, 12);
  outer->type = htons(0x0800);
  return redirect_neigh(flow->link, 0, 0, 0);
}

__attribute__((section("program"), used)) int oak_flow(struct __sk_buff *skb) {
  /* Nor of a virtual LAN, nor for another machine: a link that is watched sees more than what is for us. */
  if (skb->protocol != htons(0x0800) || skb->vlan_present || skb->pkt_type != FOR_US) return SLOW_PATH;
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ip_header *ip = data + ETHERNET;
  if (data + ETHERNET + sizeof(*ip) + 8 > end) return SLOW_PATH;
  u32 zero = 0;
  struct settings *settings = map_lookup(SETTINGS, &zero);
  if (!settings) return SLOW_PATH;
  u32 to = ntohl(ip->destination);
  if (to < settings->from || to > settings->to) return SLOW_PATH;
  /* Options, or a fragment: a set "do not fragment" is neither. */
  if (ip->version_and_length != 0x45 || (ip->fragment & htons(0xbfff)) || ip->ttl <= 1) return SLOW_PATH;
  u8 protocol = ip->protocol, tos = ip->tos, flags = 0;
  u16 *ports = (void *)(ip + 1);
  u32 headers = sizeof(*ip) + 8;
  if (protocol == TCP) {
    u8 *tcp = (void *)ports;
    if ((void *)(tcp + 20) > end) return SLOW_PATH;
    flags = tcp[13] & FIN_SYN_RST;
    headers = sizeof(*ip) + (tcp[12] >> 4) * 4;
  } else if (protocol != UDP) {
    return SLOW_PATH;
  }
  struct key key = {ip->source, ip->destination, ports[0], ports[1], skb->ifindex, {}, protocol, 0};
  __builtin_memcpy(key.sender, data + 6, 6);
  if (flags) {
    /* It begins, or ends: what is known of these ports is of no use any more. */
    map_delete(FLOWS, &key);
    map_delete(SEEN, &key);
    return SLOW_PATH;
  }
  struct flow *known = map_lookup(FLOWS, &key);
  if (!known) return count(skb, &key, settings);
  /* A copy: the place may be given to another flow meanwhile. */
  struct flow flow = *known;
  u64 now = coarse_ns();
  /* Less than 0 where another processor has seen the next tick. */
  s64 age = (s64)(now - flow.refreshed_at);
  if (flow.generation != settings->generation || age > IDLE_NS || (s64)(now - flow.learnt_at) > LIFE_NS) {
    /* Counted from the beginning: of one that was not worth an entry, the agent is told less and less often. */
    map_delete(FLOWS, &key);
    map_delete(SEEN, &key);
    return count(skb, &key, settings);
  }
  if (age > REFRESH_NS) {
    known->refreshed_at = now;
    return SLOW_PATH;
  }
  /* Too long for what follows: the slow path says so to the sender. */
  u32 piece = skb->gso_size, whole = skb->len - ETHERNET;
  /* Both are read: the verifier takes no address that is chosen between fields. */
  asm volatile("" : "+r"(piece), "+r"(whole));
  if ((piece ? piece + headers : whole) > flow.mtu) return SLOW_PATH;

  if (flow.action == TO_TUNNEL) return send_by_tunnel(skb, &flow, tos);
  if (translate(skb, &flow, ETHERNET)) return DROP;
  if (flow.action == TO_NEIGHBOUR) {
    struct bpf_redir_neigh next = {.nh_family = 2, .ipv4_nh = flow.next_hop};
    return redirect_neigh(flow.link, &next, sizeof(next), 0);
  }
  data = (void *)(long)skb->data;
  end = (void *)(long)skb->data_end;
  if (data + ETHERNET > end) return DROP;
  __builtin_memcpy(data, flow.ethernet, 12);
  return redirect_peer(flow.link, 0);
}
