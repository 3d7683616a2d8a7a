/** Service routes for tests: addresses follow from a number. */
import type { ServiceRoute } from "../../protocol/route.ts";

export const APPLICATION = "5f0c1a2b3c4d5e6f70819200";

/** Service `n` has 10.30.n.1 (round robin), 10.30.n.2 (closest), and 10.30.n.100 onwards for its instances. */
export function serviceRoute(
  n: number,
  change: Partial<ServiceRoute> & { readonly instanceCount?: number } = {},
): ServiceRoute {
  const { instanceCount = 2, ...rest } = change;
  return {
    serviceId: n.toString(16).padStart(24, "0"),
    applicationId: APPLICATION,
    jobName: `shop.prod.web${n}.prod`,
    generation: 1,
    roundRobin: `10.30.${n}.1`,
    closest: `10.30.${n}.2`,
    instances: Array.from({ length: instanceCount }, (_, number) => ({
      number,
      address: `10.30.${n}.${100 + number}`,
      live: { sandbox: `10.18.${n}.${2 + number}`, workerId: "w1" },
    })),
    workers: [{ id: "w1", address: "192.0.2.1", subnets: [`10.18.${n}.0/26`] }],
    ...rest,
  };
}
