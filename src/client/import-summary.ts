import type { ImportRequest } from "../domain/import-request.ts";
import { cutTo, markdownText } from "../domain/markdown-text.ts";

// Together with the other words and the encoding they stay below the 400 bytes that the server
// accepts for a summary.
const MOST_BYTES_OF_NAME = 220;
const MOST_BYTES_OF_STORES = 100;

// The server accepts 20,000 bytes for details.
const MOST_CHARACTERS_OF_STORES = 2_000;

type Titled = Pick<ImportRequest, "image_id" | "method" | "stores" | "all_stores">;

/** The title of a run in the Web UI, one line of Markdown: the image and its stores. */
export function importSummary(request: Titled, imageName: string | undefined): string {
  const image = fitting(MOST_BYTES_OF_NAME, imageName ?? request.image_id);
  const stores = fitting(MOST_BYTES_OF_STORES, storesOf(request));
  return `import ${image}${arrowTo(stores)}`;
}

/** The description of a run in the Web UI: the complete name, the id, the method, the stores. */
export function importDetails(request: Titled, imageName: string | undefined): string {
  const { image_id, method = "glance-direct" } = request;
  const name = imageName === undefined ? "" : ` **${markdownText(imageName)}**`;
  const stores = markdownText(cutTo(MOST_CHARACTERS_OF_STORES, storesOf(request)));
  return `Import of image${name} \`${image_id}\` by \`${method}\`${arrowTo(stores)}`;
}

function storesOf({ all_stores, stores = [] }: Titled): string {
  return all_stores === true ? "all stores" : stores.join(", ");
}

function arrowTo(stores: string): string {
  return stores === "" ? "" : ` → ${stores}`;
}

/** The Markdown of a text, which is cut if its payload would have more bytes than this. */
function fitting(mostBytes: number, text: string): string {
  for (let most = Array.from(text).length; ; most -= 1) {
    const markdown = markdownText(cutTo(most, text));
    if (Buffer.byteLength(JSON.stringify(markdown)) <= mostBytes) return markdown;
  }
}
