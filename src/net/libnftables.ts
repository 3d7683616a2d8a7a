import { nftFailed } from "./network-errors.ts";
import type { Nft } from "./nft.ts";
import { watchNft } from "./nft-watch.ts";

const JSON_OUTPUT = 1 << 4;

/**
 * libnftables.so.1 in this process. Calls are synchronous and take a fraction of a millisecond.
 * Rejects when koffi or the library cannot be loaded.
 */
export async function openLibnftables(): Promise<Nft> {
  // On demand: only a worker needs it, and it may be missing, since it has no build for every platform.
  const { default: koffi } = await import("koffi");
  const library = koffi.load("libnftables.so.1");
  const call = {
    open: library.func("void *nft_ctx_new(uint32_t flags)"),
    close: library.func("void nft_ctx_free(void *ctx)"),
    bufferOutput: library.func("int nft_ctx_buffer_output(void *ctx)"),
    bufferErrors: library.func("int nft_ctx_buffer_error(void *ctx)"),
    setOutputFlags: library.func("void nft_ctx_output_set_flags(void *ctx, unsigned int flags)"),
    run: library.func("int nft_run_cmd_from_buffer(void *ctx, const char *text)"),
    output: library.func("const char *nft_ctx_get_output_buffer(void *ctx)"),
    errors: library.func("const char *nft_ctx_get_error_buffer(void *ctx)"),
  };
  const context: unknown = call.open(0);
  if (!context) throw nftFailed("libnftables gave no context");
  call.bufferOutput(context);
  call.bufferErrors(context);

  const run = (text: string): string => {
    const failed = call.run(context, text) !== 0;
    const output = String(call.output(context) ?? "");
    const errors = String(call.errors(context) ?? "");
    if (failed) throw nftFailed(errors);
    return output;
  };
  return {
    run: async (text) => {
      run(text);
    },
    list: async (command) => {
      call.setOutputFlags(context, JSON_OUTPUT);
      try {
        return JSON.parse(run(command)) as unknown;
      } finally {
        call.setOutputFlags(context, 0);
      }
    },
    watch: watchNft,
    close: () => call.close(context),
  };
}
