/** The documents of an image (https://github.com/opencontainers/image-spec, and Docker's equal ones), and the choice among platforms. */
import * as z from "zod/mini";
import { AppError } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";

export const MEDIA_TYPES = {
  index: "application/vnd.oci.image.index.v1+json",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
} as const;

/** Larger documents are refused unread, here as in registries. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

const Digest = z.string().check(z.regex(/^sha256:[0-9a-f]{64}$/, "expected a sha256 digest"));
const Platform = z.object({
  architecture: z.string(),
  os: z.string(),
  variant: z.optional(z.string()),
});
export type Platform = z.infer<typeof Platform>;

const Descriptor = z.object({
  mediaType: z.string(),
  digest: Digest,
  size: z.int().check(z.nonnegative()),
  platform: z.optional(Platform),
  annotations: z.optional(z.nullable(z.record(z.string(), z.string()))),
});
export type Descriptor = z.infer<typeof Descriptor>;

export const ImageIndex = z.object({ manifests: z.array(Descriptor).check(z.maxLength(1000)) });
export type ImageIndex = z.infer<typeof ImageIndex>;

export const ImageManifest = z.object({
  config: Descriptor,
  layers: z.array(Descriptor).check(z.maxLength(500)),
});
export type ImageManifest = z.infer<typeof ImageManifest>;

const Words = z.optional(z.nullable(z.array(z.string())));
const ProcessConfig = z.object({
  Env: Words,
  Entrypoint: Words,
  Cmd: Words,
  WorkingDir: z.optional(z.string()),
  User: z.optional(z.string()),
});
export type ProcessConfig = z.infer<typeof ProcessConfig>;

export const ImageConfig = z.object({
  architecture: z.string(),
  os: z.string(),
  variant: z.optional(z.string()),
  config: z.optional(z.nullable(ProcessConfig)),
  rootfs: z.object({ diff_ids: z.array(Digest) }),
});
export type ImageConfig = z.infer<typeof ImageConfig>;

export function isIndex(mediaType: string): boolean {
  return mediaType === MEDIA_TYPES.index || mediaType === MEDIA_TYPES.dockerList;
}

/** @throws AppError IMAGE_INVALID */
export function parseDocument<T extends z.ZodMiniType>(schema: T, bytes: Uint8Array, what: string): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString());
  } catch (cause) {
    throw new AppError("IMAGE_INVALID", `The ${what} is not JSON`, { cause });
  }
  const result = validate(schema, value);
  if (!result.ok)
    throw new AppError("IMAGE_INVALID", `The ${what} is not what it should be: ${describeProblems(result.problems)}`);
  return result.value;
}

const NODE_ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

/** The platform of this machine, in the words of images. */
export const hostPlatform: Platform = {
  os: "linux",
  architecture: NODE_ARCHITECTURES[process.arch] ?? process.arch,
};

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return `${os}/${architecture}${variant ? `/${variant}` : ""}`;
}

/** Variants (`v7`, `v8`) are not compared: a machine runs those of its architecture that are published for it. */
export function runsOn(host: Platform, image: Platform): boolean {
  return image.os === host.os && image.architecture === host.architecture;
}

/** The manifest of an index for this machine. @throws AppError IMAGE_PLATFORM listing what there is */
export function choosePlatform(index: ImageIndex, host: Platform, name: string): Descriptor {
  const images = index.manifests.filter(({ platform }) => platform?.architecture !== "unknown");
  const chosen = images.find(({ platform }) => platform && runsOn(host, platform));
  // An index of one manifest need not name its platform; its configuration does.
  const only = images.length === 1 && !images[0]!.platform ? images[0] : undefined;
  const result = chosen ?? only;
  if (result) return result;
  throw platformError(
    name,
    images.flatMap(({ platform }) => (platform ? [platform] : [])),
    host,
  );
}

export function platformError(name: string, offered: readonly Platform[], host: Platform): AppError {
  return new AppError(
    "IMAGE_PLATFORM",
    `Image "${name}" is for ${offered.map(formatPlatform).join(", ") || "no platform"}; this machine is ${formatPlatform(host)}`,
  );
}
