// Few enough to hold, many enough that round trips do not matter.
const PAGE_SIZE = 500;

/**
 * All rows of a list, page after page.
 *
 * @param list - reads one page
 * @param first - the first page
 * @param first.marker - the row before it. Default: none
 * @param first.limit - the size of a page. Default: 500
 */
export async function* pagesOf<Row extends { readonly id: string }>(
  list: (page: { marker: string | undefined; limit: number }) => Promise<Row[]>,
  first: { readonly marker?: string | undefined; readonly limit?: number | undefined },
): AsyncGenerator<Row[]> {
  const { limit = PAGE_SIZE } = first;
  for (let { marker } = first; ;) {
    const rows = await list({ marker, limit });
    if (rows.length > 0) yield rows;
    if (rows.length === 0 || rows.length < limit) return;
    marker = rows.at(-1)?.id;
  }
}
