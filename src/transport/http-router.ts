/** Finds the row of a route table that a request is for. */

export interface Routed {
  readonly method: string;
  /** `/api/service/:id/instance/:number`; no slash at the end. */
  readonly path: string;
}

export interface Match<Route> {
  readonly route: Route;
  /** Decoded. */
  readonly params: Readonly<Record<string, string>>;
}

export class Router<Route extends Routed> {
  readonly #rows: readonly { readonly route: Route; readonly segments: readonly string[] }[];

  constructor(routes: readonly Route[]) {
    this.#rows = routes.map((route) => ({ route, segments: segmentsOf(route.path) }));
  }

  /**
   * The first row that fits; a slash at the end of the path means nothing, HEAD is served as GET.
   * Without a match: the methods that the path has, none when there is no such path.
   */
  find(method: string, path: string): Match<Route> | { readonly allowed: readonly string[] } {
    const segments = segmentsOf(path);
    const wanted = method === "HEAD" ? "GET" : method;
    const allowed: string[] = [];
    for (const row of this.#rows) {
      const params = match(row.segments, segments);
      if (!params) continue;
      if (row.route.method === wanted) return { route: row.route, params };
      allowed.push(row.route.method);
    }
    return { allowed };
  }
}

function segmentsOf(path: string): string[] {
  const segments = path.split("/").slice(1);
  if (segments.at(-1) === "") segments.pop();
  return segments;
}

function match(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index]!;
    if (!part.startsWith(":")) {
      if (part !== segment) return undefined;
      continue;
    }
    const value = decode(segment);
    if (value === undefined || value === "") return undefined;
    params[part.slice(1)] = value;
  }
  return params;
}

function decode(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined; // a stray "%": no name of ours
  }
}
