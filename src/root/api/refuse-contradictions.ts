/** What could never be placed is refused when it is registered. */
import type { Descriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import { applicationContradictions, contradictions } from "../../scheduler/contradictions.ts";
import type { Service } from "../model.ts";
import { invalidBody } from "./body.ts";

/** @throws AppError INVALID_BODY */
export function refuseContradictions(descriptor: Descriptor): void {
  const problems = contradictions(descriptor);
  if (problems.length > 0) throw invalidBody(problems);
}

/**
 * For services that join, or change in, an application.
 * @param all the services that there are
 * @param applicationId of the application
 * @throws AppError INVALID_BODY
 */
export function refuseServiceContradictions(
  changed: readonly MicroserviceDescriptor[],
  {
    all,
    applicationId,
    field,
    replaces,
  }: {
    readonly all: readonly Service[];
    readonly applicationId: string;
    readonly field: string;
    /** Id of the service that the only changed one replaces. */
    readonly replaces?: string;
  },
): void {
  const [only] = changed;
  const own = replaces === undefined ? changed : [{ ...only!, microserviceID: replaces }];
  const siblings = all
    .filter((one) => one.applicationId === applicationId && one.id !== replaces)
    .map(({ id, descriptor }) => ({ ...descriptor, microserviceID: id }));
  const elsewhere = all.filter((one) => one.applicationId !== applicationId);
  const problems = applicationContradictions([...own, ...siblings], field, elsewhere)
    // Those of the others were accepted, and are not what is asked about.
    .filter((problem) => own.some((_, index) => problem.field.startsWith(`${field}[${index}]`)));
  if (problems.length > 0) throw invalidBody(problems);
}
