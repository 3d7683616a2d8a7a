/** Makes dist/: the program in one CommonJS file (loads faster and leaner than ESM), Swagger UI, the OpenAPI document. */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const repository = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(repository, "dist");
mkdirSync(join(dist, "swagger-ui"), { recursive: true });

const version = describeVersion();
await bundle();
copySwaggerUi();
for (const script of ["host-init.sh", "host-join.sh"])
  copyFileSync(join(repository, "src/lab", script), join(dist, script));
await writeOpenApi();
rmSync(join(dist, "compile-cache"), { recursive: true, force: true });
// Last, and at once: whoever finds dist/oak.cjs finds all of dist.
renameSync(join(dist, "oak.next.cjs"), join(dist, "oak.cjs"));
console.log(`dist/oak.cjs  ${version}  ${Math.round(statSync(join(dist, "oak.cjs")).size / 1024)} kB`);

/** `0.1.0`, with the commit where there is one: `0.1.0+g1a2b3c4`, `-dirty` when files differ from it. */
function describeVersion(): string {
  const { version: released } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as {
    version: string;
  };
  try {
    const commit = execFileSync("git", ["-C", repository, "describe", "--always", "--dirty", "--exclude", "*"], {
      stdio: ["ignore", "pipe", "ignore"],
      encoding: "utf8",
    });
    return `${released}+g${commit.trim()}`;
  } catch {
    return released; // an unpacked archive, or no git: the number must do
  }
}

async function bundle(): Promise<void> {
  const result = await build({
    absWorkingDir: repository,
    entryPoints: ["src/main.ts"],
    outfile: join(dist, "oak.next.cjs"),
    bundle: true,
    format: "cjs",
    platform: "node",
    target: "node24",
    minifySyntax: true,
    minifyWhitespace: true,
    keepNames: true,
    legalComments: "none",
    // It finds its native half beside itself, in node_modules.
    external: ["koffi"],
    metafile: true,
    define: {
      OAK_VERSION: JSON.stringify(version),
      "import.meta.url": "__moduleUrl",
      "import.meta.dirname": "__dirname",
      "import.meta.filename": "__filename",
    },
    banner: { js: 'const __moduleUrl = require("node:url").pathToFileURL(__filename).href;' },
    logLevel: "warning",
  });
  if (result.warnings.length > 0)
    throw new Error("the bundler warned; see above. A warning here is a defect at run time.");
  writeFileSync(join(dist, "meta.json"), JSON.stringify(result.metafile));
}

function copySwaggerUi(): void {
  const source = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
  for (const file of ["swagger-ui.css", "swagger-ui-bundle.js"]) {
    copyFileSync(join(source, file), join(dist, "swagger-ui", file));
  }
}

async function writeOpenApi(): Promise<void> {
  const path = join(repository, "src/root/api/openapi.ts");
  if (!existsSync(path)) throw new Error(`Cannot write dist/openapi.json: "${path}" does not exist`);
  const module = (await import(pathToFileURL(path).href)) as { openapiDocument?: (version: string) => unknown };
  if (!module.openapiDocument)
    throw new Error(`Cannot write dist/openapi.json: "${path}" exports no openapiDocument()`);
  writeFileSync(join(dist, "openapi.json"), `${JSON.stringify(module.openapiDocument(version), null, 1)}\n`);
}
