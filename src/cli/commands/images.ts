/** `oak image …`: images of this machine's runtime, for sites without a registry. */
import type { ClientOptions, Edge, ImageTool, LocalImage } from "../edge.ts";
import { megabytes, showRows } from "../output.ts";

export interface ImageOptions extends Pick<ClientOptions, "output"> {
  readonly containerdSocket: string;
}

export async function build(edge: Edge, file: string, options: ImageOptions): Promise<void> {
  show(edge, options, await withTool(edge, options, (tool) => tool.build(file, edge.signal)));
}

export async function load(edge: Edge, archive: string, options: ImageOptions): Promise<void> {
  show(edge, options, await withTool(edge, options, (tool) => tool.load(archive, edge.signal)));
}

export async function list(edge: Edge, options: ImageOptions): Promise<void> {
  show(edge, options, await withTool(edge, options, (tool) => tool.list(edge.signal)));
}

export async function remove(edge: Edge, references: readonly string[], options: ImageOptions): Promise<void> {
  await withTool(edge, options, async (tool) => {
    for (const reference of references) {
      await tool.remove(reference, edge.signal);
      edge.terminal.err(`image ${reference} removed\n`);
    }
  });
}

async function withTool<T>(edge: Edge, options: ImageOptions, work: (tool: ImageTool) => Promise<T>): Promise<T> {
  const tool = await edge.images(options.containerdSocket);
  try {
    return await work(tool);
  } finally {
    tool.close();
  }
}

function show(edge: Edge, options: ImageOptions, images: readonly LocalImage[]): void {
  showRows(edge.terminal, {
    format: options.output,
    rows: images,
    none: "No image",
    columns: [
      { title: "IMAGE", value: (image) => image.name },
      { title: "PLATFORMS", value: (image) => image.platforms },
      { title: "SIZE", value: (image) => megabytes(image.sizeBytes) },
      { title: "DIGEST", value: (image) => image.digest.slice(0, 19) },
    ],
  });
}
