import type { Descriptor } from "./oci-image.ts";

/** One image of one platform, somewhere outside: in a registry, in an archive. */
export interface ImageSource {
  readonly manifest: Document;
  readonly config: Document;
  /** The blob's bytes from `offset` on. */
  openBlob(blob: Descriptor, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface Document {
  readonly mediaType: string;
  readonly digest: string;
  readonly bytes: Buffer;
}
