/**
 * What the quality measurement does inside pages. These functions are sent to the browser: each stands alone.
 */

/** When what happened after a click on "Join", milliseconds; missing where it never did. */
export interface Timeline {
  webSocket?: number;
  ice?: number;
  dtls?: number;
  firstFrame?: number;
}

/** Runs before the page's scripts: camera and microphone are a picture and a sound that flash and beep at once. */
export function flashAndBeep(): void {
  const start = () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const drawing = canvas.getContext('2d');
    const audio = new AudioContext();
    const [oscillator, gain] = [audio.createOscillator(), audio.createGain()];
    const microphone = audio.createMediaStreamDestination();
    gain.gain.value = 0;
    oscillator.connect(gain).connect(microphone);
    oscillator.start();
    let frame = 0;
    setInterval(() => {
      frame += 1;
      // A tenth of each second. The square moves, so that every frame differs.
      const flashing = frame % 30 < 3;
      gain.gain.value = flashing ? 0.5 : 0;
      if (drawing === null) return;
      drawing.fillStyle = flashing ? 'white' : 'black';
      drawing.fillRect(0, 0, 1280, 720);
      drawing.fillStyle = 'gray';
      drawing.fillRect((frame * 16) % 1280, 600, 100, 100);
    }, 1000 / 30);
    return [...canvas.captureStream(30).getTracks(), ...microphone.stream.getTracks()];
  };
  let tracks: MediaStreamTrack[] | undefined;
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    tracks ??= start();
    const chosen = tracks.filter(({ kind }) => wanted?.[kind as 'audio' | 'video']);
    return new MediaStream(chosen.map((track) => track.clone()));
  };
}

/** Runs before the page's scripts: `window.timeline` fills from the click on "Join" on. */
export function recordJoining(): void {
  let clicked: number | undefined;
  const timeline: Record<string, number> = {};
  Object.assign(window, { timeline });
  const mark = (what: string) => {
    if (clicked !== undefined) timeline[what] ??= performance.now() - clicked;
  };
  document.addEventListener('submit', () => (clicked ??= performance.now()), { capture: true });
  const NativeSocket = WebSocket;
  window.WebSocket = class extends NativeSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('message', () => mark('webSocket'), { once: true });
    }
  };
  const Native = RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(configuration?: RTCConfiguration) {
      super(configuration);
      this.addEventListener('iceconnectionstatechange', () => {
        if (this.iceConnectionState === 'connected') mark('ice');
      });
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState === 'connected') mark('dtls');
      });
    }
  };
  const watch = setInterval(() => {
    const videos = [...document.querySelectorAll<HTMLVideoElement>('.tile:not(.own) video')];
    if (videos.some((video) => video.getVideoPlaybackQuality().totalVideoFrames > 0)) {
      mark('firstFrame');
      clearInterval(watch);
    }
  }, 10);
}

/** Runs in the page: by how much sound comes after its picture, milliseconds, for each second that was watched. */
export async function lipSync(seconds: number): Promise<number[]> {
  const video = document.querySelector<HTMLVideoElement>('.tile:not(.own) video');
  const sound = document.querySelector<HTMLAudioElement>('audio');
  if (video === null || !(sound?.srcObject instanceof MediaStream)) return [];
  const canvas = Object.assign(document.createElement('canvas'), { width: 8, height: 8 });
  const drawing = canvas.getContext('2d', { willReadFrequently: true });
  const audio = new AudioContext();
  const analyser = Object.assign(audio.createAnalyser(), { fftSize: 256 });
  audio.createMediaStreamSource(sound.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);

  const [flashes, beeps]: [number[], number[]] = [[], []];
  let [white, loud] = [true, true];
  const onFrame: VideoFrameRequestCallback = (_, { expectedDisplayTime }) => {
    drawing?.drawImage(video, 0, 0, 8, 8);
    const now = (drawing?.getImageData(4, 1, 1, 1).data[1] ?? 0) > 127;
    if (now && !white) flashes.push(expectedDisplayTime);
    white = now;
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
  const listening = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const now = samples.some((sample) => Math.abs(sample) > 0.05);
    if (now && !loud) beeps.push(performance.now());
    loud = now;
  }, 4);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  clearInterval(listening);
  await audio.close();
  return beeps
    .map((beep) => flashes.map((flash) => beep - flash).sort((a, b) => Math.abs(a) - Math.abs(b))[0])
    .filter((offset): offset is number => offset !== undefined && Math.abs(offset) < 500);
}

/** Runs in the page: milliseconds from the next change of the window's size to the first frame wider than this. */
export function timeToWiderThan(width: number): Promise<number | null> {
  return new Promise((resolve) => {
    const video = document.querySelector<HTMLVideoElement>('.tile:not(.own) video');
    if (video === null) return resolve(null);
    let resized: number | undefined;
    window.addEventListener('resize', () => (resized ??= performance.now()), { once: true });
    const onFrame: VideoFrameRequestCallback = (now, frame) => {
      if (resized !== undefined && frame.width > width) resolve(now - resized);
      else video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
    setTimeout(() => resolve(null), 15_000);
  });
}
