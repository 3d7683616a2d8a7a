/** The system call bpf(2): maps, programs, and links of programs to network links. What it gives are descriptors, closed like others. */
import { AppError } from "../../base/errors.ts";

const CALL_NUMBERS: Partial<Record<NodeJS.Architecture, number>> = { x64: 321, arm64: 280, arm: 386, riscv64: 280 };
const COMMAND = { createMap: 0, putElement: 2, loadProgram: 5, createLink: 28 } as const;
const ATTRIBUTE_BYTES = 144;
const NAME_BYTES = 15;
const PROGRAM_SCHED_CLS = 3;
const TCX_INGRESS = 46;
const LOG_BYTES = 65_536;
const VERBOSE = 1;
const ONLY_IF_ABSENT = 1;

export const MAP_TYPE = { array: 2, lruHash: 9 } as const;

export interface MapShape {
  readonly name: string;
  readonly type: keyof typeof MAP_TYPE;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly entries: number;
}

export interface Bpf {
  createMap(shape: MapShape): number;
  setElement(map: number, key: Buffer, value: Buffer): void;
  /** Leaves one that is there as it is. */
  addElement(map: number, key: Buffer, value: Buffer): void;
  /** Of the type that sees packets of a link; the kernel's verifier reads it. */
  loadProgram(name: string, instructions: Buffer): number;
  /** What arrives by the link goes through the program until the descriptor is closed, also by the death of this process. */
  attach(program: number, linkIndex: number): number;
}

/** @throws AppError BPF_UNAVAILABLE: no koffi, or a processor whose number of the call we do not know */
export async function openBpf(): Promise<Bpf> {
  const number = CALL_NUMBERS[process.arch];
  if (number === undefined) throw new AppError("BPF_UNAVAILABLE", `bpf(2) is not known for "${process.arch}"`);
  const { default: koffi } = await import("koffi").catch((cause: unknown) => {
    throw new AppError("BPF_UNAVAILABLE", "koffi, which calls the kernel, cannot be loaded", { cause });
  });
  const syscall = koffi
    .load("libc.so.6")
    .func("long syscall(long number, int command, void *attributes, unsigned int size)");
  const at = (buffer: Buffer) => koffi.address(buffer) as bigint;

  function call(command: keyof typeof COMMAND, fill: (attributes: Buffer) => void, log?: Buffer): number {
    const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
    fill(attributes);
    const result = Number(syscall(number, COMMAND[command], attributes, attributes.length));
    if (result >= 0) return result;
    throw refusal(command, koffi.errno(), koffi.os.errno as Record<string, number>, log);
  }

  function putElement({ map, key, value, flags }: { map: number; key: Buffer; value: Buffer; flags: number }): void {
    call("putElement", (attributes) => {
      attributes.writeUInt32LE(map, 0);
      attributes.writeBigUInt64LE(at(key), 8);
      attributes.writeBigUInt64LE(at(value), 16);
      attributes.writeBigUInt64LE(BigInt(flags), 24);
    });
  }

  return {
    createMap: ({ name, type, keyBytes, valueBytes, entries }) =>
      call("createMap", (attributes) => {
        for (const [index, value] of [MAP_TYPE[type], keyBytes, valueBytes, entries].entries()) {
          attributes.writeUInt32LE(value, index * 4);
        }
        attributes.write(name.slice(0, NAME_BYTES), 28, "latin1");
      }),
    setElement: (map, key, value) => putElement({ map, key, value, flags: 0 }),
    addElement(map, key, value) {
      try {
        putElement({ map, key, value, flags: ONLY_IF_ABSENT });
      } catch (error) {
        if (!hasErrno(error, "EEXIST")) throw error;
      }
    },
    loadProgram(name, instructions) {
      const license = Buffer.from("Apache-2.0\0");
      const load = (log?: Buffer) =>
        call(
          "loadProgram",
          (attributes) => {
            attributes.writeUInt32LE(PROGRAM_SCHED_CLS, 0);
            attributes.writeUInt32LE(instructions.length / 8, 4);
            attributes.writeBigUInt64LE(at(instructions), 8);
            attributes.writeBigUInt64LE(at(license), 16);
            if (log) {
              attributes.writeUInt32LE(VERBOSE, 24);
              attributes.writeUInt32LE(log.length, 28);
              attributes.writeBigUInt64LE(at(log), 32);
            }
            attributes.write(name.slice(0, NAME_BYTES), 48, "latin1");
          },
          log,
        );
      try {
        return load();
      } catch {
        // Once more for the reason: the verifier's words are many, and wanted for a refusal only.
        return load(Buffer.alloc(LOG_BYTES));
      }
    },
    attach: (program, linkIndex) =>
      call("createLink", (attributes) => {
        attributes.writeUInt32LE(program, 0);
        attributes.writeUInt32LE(linkIndex, 4);
        attributes.writeUInt32LE(TCX_INGRESS, 8);
      }),
  };
}

/** Whether the kernel refused with this error, as `ENODEV`. */
export function hasErrno(error: unknown, name: string): boolean {
  if (!(error instanceof AppError)) return false;
  const { errno } = error.details;
  return errno === name;
}

function refusal(command: string, number: number, names: Record<string, number>, log: Buffer | undefined): AppError {
  const name = Object.keys(names).find((key) => names[key] === number) ?? `error ${number}`;
  const said = log?.toString("latin1", 0, log.indexOf(0)).trim().split("\n").slice(-4).join("; ");
  return new AppError("BPF_UNAVAILABLE", `bpf ${command}: ${name}${said ? ` (${said})` : ""}`, {
    details: { errno: name },
  });
}
