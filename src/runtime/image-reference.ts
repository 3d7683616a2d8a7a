/** Image names as people write them, and as containerd and registries want them. Pure. */
import { AppError } from "../base/errors.ts";

export interface ImageReference {
  /** Registry host with port, as written: `docker.io`, `localhost:5000`. */
  readonly registry: string;
  /** Path inside the registry: `library/nginx`. */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: string;
}

const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;
const MAX_LENGTH = 512;

/** `nginx` → docker.io, library/nginx, latest. @throws AppError IMAGE_NAME_INVALID */
export function parseReference(text: string): ImageReference {
  const [beforeDigest, digest, ...more] = text.split("@");
  const slash = beforeDigest!.indexOf("/");
  const first = slash < 0 ? "" : beforeDigest!.slice(0, slash);
  // The rule of every client: the first part is a host when it looks like one, else the image is Docker Hub's.
  const hasHost = first.includes(".") || first.includes(":") || first === "localhost";
  const registry = hasHost ? first : "docker.io";
  const rest = hasHost ? beforeDigest!.slice(slash + 1) : beforeDigest!;
  const colon = rest.lastIndexOf(":");
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? (digest === undefined ? "latest" : undefined) : rest.slice(colon + 1);
  const repository = registry === "docker.io" && !path.includes("/") ? `library/${path}` : path;
  const valid =
    text.length <= MAX_LENGTH &&
    more.length === 0 &&
    HOST.test(registry) &&
    REPOSITORY.test(repository) &&
    (tag === undefined || TAG.test(tag)) &&
    (digest === undefined || DIGEST.test(digest));
  if (!valid)
    throw new AppError(
      "IMAGE_NAME_INVALID",
      `${JSON.stringify(text.slice(0, 200))} is not an image name: write for example "docker.io/library/nginx:alpine"`,
    );
  return { registry, repository, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** The name under which an image is kept: `docker.io/library/nginx:latest`. @throws AppError IMAGE_NAME_INVALID */
export function normalizeReference(text: string): string {
  return formatReference(parseReference(text));
}

export function formatReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}
