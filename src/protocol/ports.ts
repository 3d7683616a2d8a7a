/** Host port mappings of the descriptor: `"6080:80/tcp;53:53/udp;8080"`. */
import * as z from "zod/mini";
import { quote } from "./names.ts";

export const PortMapping = z.object({
  hostPort: z.int().check(z.minimum(1), z.maximum(65535)),
  containerPort: z.int().check(z.minimum(1), z.maximum(65535)),
  protocol: z.enum(["tcp", "udp"]),
});
export type PortMapping = z.infer<typeof PortMapping>;

/** Of the workers among themselves (TCP and UDP): packets of the overlay, probes, network coordinates. */
export const RESERVED_PORTS = { from: 50_103, to: 50_105 } as const;

export function isReserved({ hostPort }: Pick<PortMapping, "hostPort">): boolean {
  return hostPort >= RESERVED_PORTS.from && hostPort <= RESERVED_PORTS.to;
}

const ENTRY = /^(\d{1,5})(?::(\d{1,5}))?(?:\/(tcp|udp))?$/;

/** Either the mappings, or one sentence that says what is wrong with which entry. The empty string maps nothing. */
export function parsePorts(text: string): PortMapping[] | { error: string } {
  const mappings: PortMapping[] = [];
  for (const entry of text.split(";").map((part) => part.trim())) {
    if (entry === "") continue;
    const match = ENTRY.exec(entry);
    if (!match)
      return {
        error: `${quote(entry)} is not a port mapping: write host[:container][/tcp|/udp], for example 6080:80/tcp`,
      };
    const hostPort = Number(match[1]);
    const containerPort = Number(match[2] ?? match[1]);
    for (const port of [hostPort, containerPort]) {
      if (port < 1 || port > 65535) return { error: `port ${port} in ${quote(entry)} is outside 1 to 65535` };
    }
    if (isReserved({ hostPort })) {
      const { from, to } = RESERVED_PORTS;
      return { error: `host port ${hostPort} is reserved: workers use ${from} to ${to} among themselves` };
    }
    const protocol = match[3] === "udp" ? "udp" : "tcp";
    if (mappings.some((other) => other.hostPort === hostPort && other.protocol === protocol)) {
      return { error: `host port ${hostPort}/${protocol} is mapped twice` };
    }
    mappings.push({ hostPort, containerPort, protocol });
  }
  return mappings;
}

export function formatPort({ hostPort, protocol }: { hostPort: number; protocol: string }): string {
  return `${hostPort}/${protocol}`;
}
