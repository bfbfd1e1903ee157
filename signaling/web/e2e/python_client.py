"""A participant of LiveKit's Python SDK: sends a picture and a tone, receives, and answers chat messages.

Arguments: URL TOKEN v0|v1. Says what happens as lines of JSON on standard output, until standard input ends.
"""

import asyncio
import json
import math
import struct
import sys

from livekit import rtc

CHAT = "lk.chat"
WIDTH, HEIGHT = 640, 360
SAMPLE_RATE = 48_000
SAMPLES = SAMPLE_RATE // 50


def say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def send_picture(source: rtc.VideoSource) -> None:
    for number in range(sys.maxsize):
        shade = number * 8 % 256
        source.capture_frame(
            rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, bytes([shade, 128, 255 - shade, 255]) * WIDTH * HEIGHT)
        )
        await asyncio.sleep(1 / 15)


async def send_tone(source: rtc.AudioSource) -> None:
    tone = [round(8000 * math.sin(2 * math.pi * 400 * n / SAMPLE_RATE)) for n in range(SAMPLES)]
    frame = rtc.AudioFrame(struct.pack(f"<{SAMPLES}h", *tone), SAMPLE_RATE, 1, SAMPLES)
    while True:
        await source.capture_frame(frame)


async def see(track: rtc.Track) -> None:
    """Counts what is decoded. The frames that the SDK hands over say less: libwebrtc takes the sink off a stream
    when a packet arrives in the instant in which it makes the stream anew (`MaybeCreateDefaultReceiveStream`, then
    `SetSink: nullptr`), and SDK 1.2 has it do so by its own changes to its offer, when it first publishes."""
    while True:
        for stat in await track.get_stats():
            received = stat.inbound_rtp.inbound
            if received.frames_decoded >= 20:
                say("frames", count=received.frames_decoded, width=received.frame_width, height=received.frame_height)
                return
        await asyncio.sleep(0.1)


async def hear(track: rtc.Track) -> None:
    async for event in rtc.AudioStream(track):
        loudest = max(map(abs, event.frame.data), default=0)
        if loudest > 500:
            say("sound", loudest=loudest)
            return


async def answer(room: rtc.Room, reader: rtc.TextStreamReader) -> None:
    text = await reader.read_all()
    say("message", text=text)
    await room.local_participant.send_text(f"You wrote: {text}", topic=CHAT)


async def main(url: str, token: str, protocol: str) -> None:
    room = rtc.Room()
    tasks: set[asyncio.Task] = set()

    def begin(work) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @room.on("track_subscribed")
    def _(track: rtc.Track, *_) -> None:
        begin(see(track) if track.kind == rtc.TrackKind.KIND_VIDEO else hear(track))

    room.register_text_stream_handler(CHAT, lambda reader, _identity: begin(answer(room, reader)))
    await room.connect(url, token, rtc.RoomOptions(single_peer_connection=protocol == "v1"))
    say("connected", name=room.local_participant.name)

    video = rtc.VideoSource(WIDTH, HEIGHT)
    audio = rtc.AudioSource(SAMPLE_RATE, 1)
    for track, source in (
        (rtc.LocalVideoTrack.create_video_track("camera", video), rtc.TrackSource.SOURCE_CAMERA),
        (rtc.LocalAudioTrack.create_audio_track("microphone", audio), rtc.TrackSource.SOURCE_MICROPHONE),
    ):
        await room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=source))
    begin(send_picture(video))
    begin(send_tone(audio))
    say("published")

    await asyncio.to_thread(sys.stdin.read)
    for task in list(tasks):
        task.cancel()
    await room.disconnect()
    say("left")


asyncio.run(main(*sys.argv[1:]))
