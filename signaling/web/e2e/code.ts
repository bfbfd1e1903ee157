/**
 * A number as a picture of black and white cells, to be drawn at one end of a lesson and read from a frame at the
 * other: what arrives is what was shown. Cells are large, so
 * that they survive scaling and the compression of the thinnest layer.
 */

const COLUMNS = 8;
const ROWS = 4;
const VALUE_BITS = 24;

/** Which cells are white, row by row: 24 bits of the value, then 8 of a checksum. */
export function cellsOf(value: number): boolean[] {
  const word = value * 256 + checksum(value);
  return Array.from({ length: COLUMNS * ROWS }, (_, bit) => Math.floor(word / 2 ** bit) % 2 === 1);
}

/** The value, or null where the cells are not those of any. */
export function valueOf(cells: boolean[]): number | null {
  const word = cells.reduce((sum, white, bit) => sum + (white ? 2 ** bit : 0), 0);
  const value = Math.floor(word / 256);
  return cells.length === COLUMNS * ROWS && word % 256 === checksum(value) ? value : null;
}

/** Never that of an even picture: all black or all white is no code. */
function checksum(value: number): number {
  let sum = 0x5a;
  for (let bit = 0; bit < VALUE_BITS; bit += 8) sum = (sum * 31 + (Math.floor(value / 2 ** bit) % 256)) % 256;
  return sum;
}

/** A page that shows a value; `window.show(cells)` changes it. */
export function codePage(title: string, value: number): string {
  const style = `html, body { margin: 0; height: 100% } body { display: grid; grid: repeat(${ROWS}, 1fr) / repeat(${COLUMNS}, 1fr) }`;
  const script = `
    window.show = (cells) => document.body.replaceChildren(...cells.map((white) => {
      const cell = document.createElement('div');
      cell.style.background = white ? 'white' : 'black';
      return cell;
    }));
    window.show(${JSON.stringify(cellsOf(value))});`;
  return `<!doctype html><title>${title}</title><style>${style}</style><body></body><script>${script}</script>`;
}

/** What a video shows now, for `page.evaluate`: the cells by the brightness at their middle. */
export function readCells(video: HTMLVideoElement): boolean[] {
  // Runs in the page: nothing of this module is there.
  const [columns, rows] = [8, 4];
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [columns * 8, rows * 8];
  const drawing = canvas.getContext('2d');
  if (drawing === null || video.videoWidth === 0) return [];
  drawing.drawImage(video, 0, 0, canvas.width, canvas.height);
  return Array.from({ length: columns * rows }, (_, cell) => {
    const [x, y] = [cell % columns, Math.floor(cell / columns)];
    const { data } = drawing.getImageData(x * 8 + 2, y * 8 + 2, 4, 4);
    const green = data.filter((_, index) => index % 4 === 1);
    return green.reduce((sum, byte) => sum + byte, 0) / green.length > 127;
  });
}
