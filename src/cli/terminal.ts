/** Where commands read and write: handed in, so that a test can be the terminal. */
import type { ReadStream, WriteStream } from "node:tty";
import { AppError } from "../base/errors.ts";

export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  /** True when a person reads standard output, and colours are welcome. */
  readonly colours: boolean;
  /** All of standard input. */
  readInput(): Promise<string>;
  /** One line, typed without echo. @throws AppError USAGE when nobody can type. */
  readSecret(prompt: string): Promise<string>;
}

export interface Streams {
  readonly stdin: NodeJS.ReadableStream & Partial<Pick<ReadStream, "isTTY" | "setRawMode">>;
  readonly stdout: NodeJS.WritableStream & Partial<Pick<WriteStream, "isTTY">>;
  readonly stderr: NodeJS.WritableStream & Partial<Pick<WriteStream, "isTTY">>;
  /** https://no-color.org: present and not empty means no colours. */
  readonly noColour: boolean;
}

const MAX_INPUT_BYTES = 16 * 1024 * 1024;

export function createTerminal({ stdin, stdout, stderr, noColour }: Streams): Terminal {
  return {
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    colours: stdout.isTTY === true && !noColour,
    async readInput() {
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of stdin) {
        const bytes = Buffer.from(chunk);
        size += bytes.length;
        if (size > MAX_INPUT_BYTES)
          throw new AppError("INPUT_INVALID", `Standard input has more than ${MAX_INPUT_BYTES} bytes`);
        chunks.push(bytes);
      }
      return Buffer.concat(chunks).toString();
    },
    readSecret(prompt) {
      if (!stdin.isTTY || !stdin.setRawMode) {
        throw new AppError("USAGE", "Nobody can type a password here: use --password-stdin");
      }
      stderr.write(prompt);
      return readWithoutEcho(stdin as ReadStream).finally(() => stderr.write("\n"));
    },
  };
}

function readWithoutEcho(stdin: ReadStream): Promise<string> {
  return new Promise((resolve, reject) => {
    let typed = "";
    const finish = (settle: () => void) => {
      stdin.removeListener("data", onData);
      stdin.setRawMode(false);
      stdin.pause();
      settle();
    };
    const onData = (chunk: string) => {
      for (const key of chunk) {
        if (key === "\r" || key === "\n") return finish(() => resolve(typed));
        // Raw mode takes Ctrl-C and Ctrl-D away from the terminal driver.
        if (key === "\u0003" || key === "\u0004")
          return finish(() => reject(new AppError("USAGE", "No password was typed")));
        typed = key === "\u007f" || key === "\b" ? [...typed].slice(0, -1).join("") : typed + key;
      }
    };
    stdin.setEncoding("utf8");
    stdin.setRawMode(true);
    stdin.on("data", onData);
    stdin.resume();
  });
}
