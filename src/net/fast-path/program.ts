/** The program as the kernel wants it: pure. */
import { FLOW_PROGRAM } from "./flow.gen.ts";

const INSTRUCTION_BYTES = 8;
/** An instruction of two halves that loads 64 bits. */
const LOAD_WIDE = 0x18;
/** "oak" in the upper half: the lower one is the number of a map (flow.bpf.c). */
const PLACEHOLDER = 0x6f61_6b00;
const FROM_DESCRIPTOR = 1;

/** @param maps descriptors, in the order of their numbers in flow.bpf.c */
export function flowProgram(maps: readonly number[]): Buffer {
  const program = Buffer.from(FLOW_PROGRAM, "base64");
  for (let at = 0; at < program.length; at += INSTRUCTION_BYTES) {
    if (program[at] !== LOAD_WIDE) continue;
    const upper = at + INSTRUCTION_BYTES + 4;
    if (program.readUInt32LE(upper) === PLACEHOLDER) {
      const map = maps[program.readUInt32LE(at + 4)];
      if (map === undefined) throw new RangeError("The program uses a map that was not given");
      program[at + 1] = program[at + 1]! | (FROM_DESCRIPTOR << 4);
      program.writeUInt32LE(map, at + 4);
      program.writeUInt32LE(0, upper);
    }
    at += INSTRUCTION_BYTES;
  }
  return program;
}
