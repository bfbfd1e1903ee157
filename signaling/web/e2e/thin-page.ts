/**
 * What the test of thin lines does inside pages. These functions are sent to the browser: each stands alone.
 */

/** What {@link installDeck} adds to a page. */
interface DeckWindow {
  drawSlide: (drawing: CanvasRenderingContext2D, page: number) => void;
  /** Shows a page from now on; when, by `Date.now()`. */
  turnTo: (page: number) => number;
}

/**
 * Runs before the page's scripts: a fixed deck of slides is what the page captures when it shares its screen, and
 * what it can draw to compare with.
 */
export function installDeck(): void {
  const [width, height] = [1280, 720];
  const words =
    'river source spring valley delta flood bank stream mouth meander rapids lake glacier rain'.split(' ');
  const drawSlide = (drawing: CanvasRenderingContext2D, page: number) => {
    drawing.fillStyle = 'white';
    drawing.fillRect(0, 0, width, height);
    drawing.fillStyle = '#14365c';
    drawing.fillRect(0, 0, width, 90);
    drawing.fillStyle = 'white';
    drawing.font = 'bold 44px sans-serif';
    drawing.fillText(`${page}. Rivers: ${words[page % words.length]}`, 40, 60);
    drawing.fillStyle = 'black';
    drawing.font = '26px sans-serif';
    for (let line = 0; line < 9; line += 1) {
      const text = Array.from({ length: 5 }, (_, at) => words[(page * 7 + line * 5 + at * 3) % words.length]);
      drawing.fillText(`• ${text.join(' ')}`, 60, 150 + line * 44);
    }
    for (let bar = 0; bar < 6; bar += 1) {
      drawing.fillStyle = ['#2166ac', '#e08214', '#1b7837'][(bar + page) % 3] ?? '';
      const tall = 60 + ((page * 53 + bar * 97) % 300);
      drawing.fillRect(780 + bar * 75, 640 - tall, 50, tall);
    }
  };

  let [page, drawing]: [number, CanvasRenderingContext2D | null] = [1, null];
  const turnTo = (next: number) => {
    page = next;
    if (drawing !== null) drawSlide(drawing, page);
    return Date.now();
  };
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    drawing = canvas.getContext('2d', { alpha: false });
    turnTo(page);
    // A captured screen repeats what stands still, too.
    setInterval(() => turnTo(page), 200);
    return canvas.captureStream(5);
  };
  Object.assign(window, { drawSlide, turnTo } satisfies DeckWindow);
}

/** Runs in the page of whoever shares the deck. */
export function turnTo(page: number): number {
  return (window as unknown as DeckWindow).turnTo(page);
}

/** Runs before the page's scripts: what the page would send to one port of the server, it sends to a relay. */
export function sendThrough(serverPort: number, relay: string): void {
  const [address, port] = relay.split(':');
  // Component, transport, priority, address, port: RFC 8839 §5.1.
  const candidate = new RegExp(`(candidate:\\S+ \\d+ \\S+ \\d+ )\\S+ ${serverPort} `, 'g');
  const divert = (text: string) => text.replace(candidate, `$1${address} ${port} `);
  const Native = RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    override setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
      return super.setRemoteDescription({ type: description.type, sdp: divert(description.sdp ?? '') });
    }

    override addIceCandidate(added?: RTCIceCandidateInit | null): Promise<void> {
      if (!added) return super.addIceCandidate();
      const { sdpMid = null, sdpMLineIndex = null } = added;
      return super.addIceCandidate({ candidate: divert(added.candidate ?? ''), sdpMid, sdpMLineIndex });
    }
  };
}

/** How legible a page of the deck became, and when. */
export interface Legible {
  /** By `Date.now()`; null: not in time. */
  at: number | null;
  /** The best that was seen. */
  ssim: number;
}

/** Runs in a page that shows the slides: waits until a page of the deck is as it was drawn. */
export async function legible(wanted: { page: number; ssim: number; withinMs: number }): Promise<Legible> {
  const [width, height] = [1280, 720];
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const drawing = canvas.getContext('2d', { willReadFrequently: true, alpha: false });
  if (drawing === null) return { at: null, ssim: 0 };
  const brightness = () => {
    const { data } = drawing.getImageData(0, 0, width, height);
    return Float32Array.from({ length: width * height }, (_, at) => {
      const [red = 0, green = 0, blue = 0] = data.subarray(at * 4, at * 4 + 3);
      return 0.299 * red + 0.587 * green + 0.114 * blue;
    });
  };
  (window as unknown as DeckWindow).drawSlide(drawing, wanted.page);
  const original = brightness();

  /** Wang, Bovik, Sheikh, Simoncelli 2004: the mean over windows of 8 by 8, four apart. */
  const similarity = (shown: Float32Array) => {
    const [c1, c2, count] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2, 64];
    let [sum, windows] = [0, 0];
    for (let top = 0; top + 8 <= height; top += 4) {
      for (let left = 0; left + 8 <= width; left += 4) {
        let [a, b, aa, bb, ab] = [0, 0, 0, 0, 0];
        for (let y = top; y < top + 8; y += 1) {
          for (let at = y * width + left; at < y * width + left + 8; at += 1) {
            const [x, z] = [original[at] ?? 0, shown[at] ?? 0];
            a += x;
            b += z;
            aa += x * x;
            bb += z * z;
            ab += x * z;
          }
        }
        const [ma, mb] = [a / count, b / count];
        const [va, vb, cov] = [aa / count - ma * ma, bb / count - mb * mb, ab / count - ma * mb];
        sum += ((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
        windows += 1;
      }
    }
    return sum / windows;
  };

  const deadline = Date.now() + wanted.withinMs;
  let best = 0;
  do {
    const now = Date.now();
    const video = document.querySelector<HTMLVideoElement>('figure.slides video');
    if (video !== null && video.videoWidth > 0) {
      drawing.drawImage(video, 0, 0, width, height);
      best = Math.max(best, similarity(brightness()));
      if (best >= wanted.ssim) return { at: now, ssim: best };
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  } while (Date.now() < deadline);
  return { at: null, ssim: best };
}

/**
 * Runs in a page: from now on `window.longestFreeze` is the longest time, milliseconds, without a new frame of the
 * first other participant's camera while packets of it arrived. When none arrive, it is paused.
 */
export function watchFreezes(): void {
  const state = window as unknown as { longestFreeze: number; connections: RTCPeerConnection[] };
  state.longestFreeze = 0;
  let [frames, packets, since, lastPacket] = [0, 0, performance.now(), performance.now()];
  setInterval(async () => {
    const stream = document.querySelector<HTMLVideoElement>('.tile:not(.own) video')?.srcObject;
    const id = stream instanceof MediaStream ? stream.getVideoTracks()[0]?.id : undefined;
    for (const connection of state.connections) {
      for (const report of (await connection.getStats()).values()) {
        if (report.type !== 'inbound-rtp' || report.trackIdentifier !== id) continue;
        const now = performance.now();
        const arrived = report.packetsReceived > packets;
        if (report.framesDecoded > frames || now - lastPacket > 500) since = now;
        else if (arrived) state.longestFreeze = Math.max(state.longestFreeze, now - since);
        if (arrived) lastPacket = now;
        [frames, packets] = [report.framesDecoded, report.packetsReceived];
      }
    }
  }, 100);
}

/** Runs in the page: what {@link watchFreezes} has seen. */
export function longestFreeze(): number {
  return (window as unknown as { longestFreeze: number }).longestFreeze;
}
