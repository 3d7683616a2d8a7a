/** The address ranges of an installation, as the root gives them out. Pure. */
import { AppError } from "../base/errors.ts";
import { DEFAULT_SERVICE_RANGE, DEFAULT_WORKER_RANGES } from "../protocol/route.ts";
import type { Pool } from "./pool.ts";
import { formatSubnet, overlaps, parseSubnet, type Subnet, sizeOf } from "./subnet.ts";

export interface AddressPlan {
  /** Addresses of services and instances. */
  readonly service: Pool & { readonly ranges: readonly [Subnet] };
  /** Blocks (/22) for clusters. */
  readonly blocks: Pool;
  /** How long a freed piece is given to nobody else. */
  readonly quarantineMs: number;
}

export interface AddressSettings {
  readonly serviceRange: string;
  readonly workerRange: readonly string[];
  /** Seconds. */
  readonly addressQuarantine: number;
}

const BLOCK_SIZE = 1024;
/** Of the subnets that a cluster gives its workers. */
export const SUBNET_SIZE = 64;
/** Sandboxes in one: without network, broadcast and the worker's own address. */
export const ADDRESSES_IN_SUBNET = SUBNET_SIZE - 3;

export const DEFAULT_ADDRESSES: AddressSettings = {
  serviceRange: DEFAULT_SERVICE_RANGE,
  workerRange: DEFAULT_WORKER_RANGES,
  addressQuarantine: 600,
};

/** @throws CONFIG_INVALID | SUBNET_INVALID */
export function addressPlan({ serviceRange, workerRange, addressQuarantine }: AddressSettings): AddressPlan {
  const service = parseSubnet(serviceRange);
  const ranges = workerRange.map(parseSubnet);
  const small = ranges.find((range) => sizeOf(range) < BLOCK_SIZE);
  if (small || ranges.length === 0) {
    const found = small ? `${formatSubnet(small)} is too small` : "it is empty";
    throw new AppError("CONFIG_INVALID", `workerRange: ${found}; a cluster alone gets a /22 of it`);
  }
  for (const [index, range] of ranges.entries()) {
    const other = [service, ...ranges.slice(0, index)].find((one) => overlaps(one, range));
    if (!other) continue;
    const pair = `${formatSubnet(other)} and ${formatSubnet(range)}`;
    throw new AppError("CONFIG_INVALID", `serviceRange and workerRange must not overlap: ${pair} do`);
  }
  return {
    service: { ranges: [service], pieceSize: 1 },
    blocks: { ranges, pieceSize: BLOCK_SIZE },
    quarantineMs: addressQuarantine * 1000,
  };
}

/** The subnets for workers in a cluster's blocks. @throws SUBNET_INVALID */
export function subnetPool(blocks: readonly string[]): Pool {
  return { ranges: blocks.map(parseSubnet).sort((one, other) => one.base - other.base), pieceSize: SUBNET_SIZE };
}

/** A piece as it is written: `10.18.0.64/26`. */
export function formatPiece({ pieceSize }: Pool, base: number): string {
  return formatSubnet({ base, prefix: 32 - Math.log2(pieceSize) });
}
