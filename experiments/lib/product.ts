/** The product under measurement: containerd, `oak up` or its roles, and a client of its public API. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { eventually, repository } from "../../test/support/lab-host.ts";

export const OAK = join(repository, "bin/oak");
export const API = "http://127.0.0.1:10000";
/** Made by buildImage(); busybox and little else. */
export const IMAGE = "oakestra.local/hello:latest";
const run = promisify(execFile);

export async function output(file: string, args: readonly string[]): Promise<string> {
  return (await run(file, args, { encoding: "utf8", timeout: 60_000, maxBuffer: 64e6 })).stdout;
}

/** Starts a program whose output goes to /var/log/<label>.log (of the lab host). */
export function background(label: string, file: string, args: readonly string[]): ChildProcess {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], cwd: repository });
  const log = createWriteStream(`/var/log/${label}.log`);
  child.stdout.pipe(log);
  child.stderr.pipe(log);
  child.on("exit", (code, signal) => {
    if (code !== 0 && code !== null) {
      console.error(
        `${label} ended (${code ?? signal}):\n${readFileSync(`/var/log/${label}.log`, "utf8").slice(-3000)}`,
      );
    }
  });
  return child;
}

export async function startContainerd(): Promise<void> {
  background("containerd", "containerd", []);
  await eventually(() => output("ctr", ["version"]), { what: "an answer of containerd" });
}

/** `oak up`, with the example's image present. Resolves with its process and a logged-in client. */
export async function startUp(extra: readonly string[] = []): Promise<{ process: ChildProcess; client: Client }> {
  const child = background("oak-up", OAK, ["up", "--insecure-default-admin", ...extra]);
  const client = await login();
  await eventually(
    async () => (((await client.get("/api/clusters/active")) as unknown[]).length > 0 ? true : undefined),
    {
      what: "an active cluster",
      withinMs: 60_000,
    },
  );
  await output(OAK, ["image", "build", "-f", join(repository, "examples/hello/image.yaml")]);
  return { process: child, client };
}

export async function login(): Promise<Client> {
  return eventually(
    async () => {
      const answer = await fetch(`${API}/api/auth/login`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ username: "Admin", password: "Admin" }),
      });
      if (!answer.ok) throw new Error(`login answers ${answer.status}: ${await answer.text()}`);
      return new Client(((await answer.json()) as { token: string }).token);
    },
    { what: "an answer of the root", withinMs: 60_000 },
  );
}

export interface Instance {
  readonly instance_number: number;
  readonly status: string;
  readonly status_detail?: string;
}

/** The few calls of the REST API that experiments need. Throws on any status but 2xx. */
export class Client {
  readonly #token: string;
  readonly #server: string;

  constructor(token: string, server = API) {
    this.#token = token;
    this.#server = server;
  }

  get(path: string): Promise<unknown> {
    return this.#call("GET", path);
  }

  /** Registers an application with one service; returns the service's id. */
  async register(name: string, service: Readonly<Record<string, unknown>>): Promise<string> {
    return (await this.registerServices(name, { [name]: service }))[0]!;
  }

  /** Registers an application; returns its services' ids. */
  async registerServices(
    name: string,
    services: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  ): Promise<string[]> {
    const applications = (await this.#call("POST", "/api/application/", {
      sla_version: "v2.0",
      customerID: "Admin",
      applications: [
        {
          application_name: name,
          application_namespace: "exp",
          application_desc: "",
          microservices: Object.entries(services).map(([serviceName, service]) => ({
            microservice_name: serviceName,
            microservice_namespace: "exp",
            virtualization: "container",
            code: IMAGE,
            memory: 0,
            ...service,
          })),
        },
      ],
    })) as { application_name: string; microservices: string[] }[];
    const ids = applications.find((application) => application.application_name === name)?.microservices ?? [];
    if (ids.length === 0) throw new Error(`application "${name}" was registered without a service`);
    return ids;
  }

  /** One more instance; returns as soon as the API has answered. */
  async deploy(serviceId: string): Promise<void> {
    await this.#call("POST", `/api/service/${serviceId}/instance`);
  }

  async undeploy(serviceId: string, instanceNumber: number): Promise<void> {
    await this.#call("DELETE", `/api/service/${serviceId}/instance/${instanceNumber}`);
  }

  async instances(serviceId: string): Promise<Instance[]> {
    return ((await this.get(`/api/service/${serviceId}`)) as { instance_list: Instance[] }).instance_list;
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await fetch(this.#server + path, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path} answers ${answer.status}: ${text.slice(0, 500)}`);
    return text === "" ? undefined : JSON.parse(text);
  }
}
