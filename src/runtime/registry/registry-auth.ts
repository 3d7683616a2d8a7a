/** What a registry asks for when it answers 401 (https://distribution.github.io/distribution/spec/auth/token/). Pure. */

export interface Challenge {
  readonly scheme: "basic" | "bearer";
  readonly parameters: Readonly<Record<string, string>>;
}

/** The first challenge that we can meet; Bearer is preferred. */
export function parseChallenge(header: string | undefined): Challenge | undefined {
  const challenges = [
    ...(header ?? "").matchAll(/\b(basic|bearer)\s+((?:[\w-]+\s*=\s*(?:"[^"]*"|[^\s,"]+)\s*,?\s*)*)/gi),
  ];
  const parsed = challenges.map(([, scheme, list]): Challenge => {
    const parameters = [...list!.matchAll(/([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))/g)];
    return {
      scheme: scheme!.toLowerCase() as Challenge["scheme"],
      parameters: Object.fromEntries(parameters.map(([, key, quoted, bare]) => [key!.toLowerCase(), quoted ?? bare!])),
    };
  });
  return parsed.find(({ scheme }) => scheme === "bearer") ?? parsed[0];
}

/** Where the token is got; undefined when the challenge names no usable place. */
export function tokenUrl({ parameters }: Challenge, repository: string): URL | undefined {
  if (!parameters.realm || !URL.canParse(parameters.realm)) return undefined;
  const url = new URL(parameters.realm);
  if (url.protocol !== "https:" && url.protocol !== "http:") return undefined;
  if (parameters.service) url.searchParams.set("service", parameters.service);
  url.searchParams.set("scope", parameters.scope ?? `repository:${repository}:pull`);
  return url;
}

export function basicAuthorization({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}
