import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAddress, parseSubnet } from "../addressing/subnet.ts";
import { compile, compileChange, type KernelState, withoutSandbox, withSandbox } from "./compile.ts";
import { readPorts, withPorts } from "./host-ports.ts";

const at = (text: string) => parseAddress(text)!;
const empty: KernelState = { subnet: parseSubnet("10.18.0.0/22"), sandboxes: [], ports: [] };
const busy: KernelState = {
  ...empty,
  sandboxes: [at("10.18.0.2"), at("10.18.3.254")],
  ports: [
    { protocol: "tcp", hostPort: 6080, containerPort: 80, address: at("10.18.0.2") },
    { protocol: "udp", hostPort: 53, containerPort: 53, address: at("10.18.0.2") },
  ],
};

const GOLDEN = `table ip oakestra
delete table ip oakestra
table ip oakestra {
	map host_ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 6080 : 10.18.0.2 . 80, udp . 53 : 10.18.0.2 . 53 }
	}

	chain raw_prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname "oak0" ip daddr 127.0.0.0/8 drop
	}

	chain nat_prerouting {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local dnat ip to ip protocol . th dport map @host_ports
	}

	chain nat_output {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 accept
		fib daddr type local dnat ip to ip protocol . th dport map @host_ports
	}

	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname != "oak0" oifname "oak0" ct state new ct status & dnat == 0 drop
	}

	chain output {
		type filter hook output priority 0; policy accept;
		oifname "oak0" icmp type redirect drop
	}

	chain nat_postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 10.18.0.0/22 oifname "oak0" ct status dnat masquerade
		oifname "oak0" ip saddr 127.0.0.0/8 masquerade
		ip saddr 10.18.0.0/22 oifname != "oak0" masquerade
	}
}
table bridge oakestra
delete table bridge oakestra
table bridge oakestra {
	set senders {
		type ifname . ether_addr . ipv4_addr
		elements = { "oak0a120002" . 02:6f:0a:12:00:02 . 10.18.0.2, "oak0a1203fe" . 02:6f:0a:12:03:fe . 10.18.3.254 }
	}

	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname != "oak*" accept
		iifname . ether saddr . ip saddr @senders accept
		iifname . arp saddr ether . arp saddr ip @senders accept
		drop
	}
}
`;

test("compile() gives the tables of the specification", () => {
  assert.equal(compile(busy), GOLDEN);
});

test("compile() writes no empty element lists, which nft refuses", () => {
  assert.ok(!compile(empty).includes("elements"));
});

test("compileChange() is empty when nothing differs, and else names what goes before what comes", () => {
  assert.equal(compileChange(busy, busy), "");
  assert.equal(
    compileChange(busy, withSandbox(withoutSandbox(busy, at("10.18.0.2")), at("10.18.0.3"))),
    `delete element ip oakestra host_ports { tcp . 6080 : 10.18.0.2 . 80, udp . 53 : 10.18.0.2 . 53 }
delete element bridge oakestra senders { "oak0a120002" . 02:6f:0a:12:00:02 . 10.18.0.2 }
add element bridge oakestra senders { "oak0a120003" . 02:6f:0a:12:00:03 . 10.18.0.3 }
`,
  );
});

test("withPorts() gives a sandbox exactly the ports wanted, leaves the others', and is idempotent", () => {
  const port = fc.record({
    hostPort: fc.integer({ min: 1, max: 20 }),
    containerPort: fc.integer({ min: 1, max: 65_535 }),
    protocol: fc.constantFrom("tcp" as const, "udp" as const),
  });
  const ports = fc.uniqueArray(port, { selector: ({ hostPort, protocol }) => `${hostPort}/${protocol}`, maxLength: 5 });
  fc.assert(
    fc.property(ports, ports, (ours, theirs) => {
      const others = withPorts(empty, { address: 1, ports: theirs }, String);
      const taken = ours.find((a) => theirs.some((b) => a.hostPort === b.hostPort && a.protocol === b.protocol));
      const change = () => withPorts(others, { address: 2, ports: ours }, (address) => `instance-${address}`);
      if (taken) return void assert.throws(change, { code: "PORT_BUSY", message: /"instance-1"/ });
      const state = change();
      assert.deepEqual(withPorts(state, { address: 2, ports: ours }, String), state);
      assert.deepEqual(
        state.ports.filter(({ address }) => address === 1),
        others.ports,
      );
      assert.deepEqual(withPorts(state, { address: 2, ports: [] }, String), others);
    }),
  );
});

test("readPorts() reads nft's JSON, with protocols by name or by number, and leaves out what is not ours", () => {
  const row = (...values: (string | number)[]) => [{ concat: values.slice(0, 2) }, { concat: values.slice(2) }];
  const elem = [row("tcp", 6080, "10.18.0.2", 80), row("17", 53, "10.18.0.2", 53), row("sctp", 1, "10.18.0.2", 1)];
  assert.deepEqual(readPorts({ nftables: [{ metainfo: {} }, { map: { name: "host_ports", elem } }] }), busy.ports);
  assert.deepEqual(readPorts({ nftables: [{ map: { name: "host_ports" } }] }), []);
});
