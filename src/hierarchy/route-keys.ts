/** What a service's table means to whoever looks it up, or compares it. Pure. */
import { type InterestKey, interestIn, type ServiceRoute } from "../protocol/route.ts";

/** Every key that stands for the service. */
export function keysOf(table: ServiceRoute): InterestKey[] {
  return [
    interestIn.name(table.jobName),
    interestIn.application(table.applicationId),
    ...[table.roundRobin, table.closest, ...table.instances.map(({ address }) => address)].map(interestIn.address),
  ];
}

/** Whether the two say the same, whenever they were made. */
export function isSameRoute(one: Omit<ServiceRoute, "generation">, other: Omit<ServiceRoute, "generation">): boolean {
  return JSON.stringify({ ...one, generation: 0 }) === JSON.stringify({ ...other, generation: 0 });
}

/** Generations of one start of a tier: later starts have later ones. @param epoch of that start, from the tier's store */
export function generations(epoch: number): () => number {
  // A thousand changes a second for twelve days, and eight million starts, before it ends.
  let generation = epoch * 2 ** 30;
  return () => (generation += 1);
}
