/** Every word the page says, in one place: a translation is another object of this shape. */
export const strings = {
  title: 'Lectern',

  start: {
    heading: 'Make a lesson',
    explanation:
      'You get one link for yourself and one for each class. Whoever has a link can join the lesson.',
    name: 'Name of the lesson',
    namePlaceholder: 'Mathematics, year 5',
    schools: 'Schools that take part, one on each line (optional)',
    make: 'Make a lesson',
    making: 'Making the lesson…',
    made: (name: string) => `The lesson “${name}” is ready.`,
    teacherLink: 'Link for the teacher',
    classLink: 'Link for the class',
    schoolLink: (school: string) => `Link for ${school}`,
    viewerLink: 'Link for guests who only watch',
    copy: 'Copy',
    copyLabel: (link: string) => `Copy: ${link}`,
    copied: 'Copied.',
    copyFailed: 'Copying did not work: select the link and copy it by hand.',
    open: 'Open as teacher',
    closed: 'On this server only its administrators make lessons. Ask them for a link.',
  },

  join: {
    heading: 'Join the lesson',
    name: 'Your name, or the name of your class',
    devices: 'The browser will ask whether this page may use the camera and the microphone.',
    join: 'Join',
    again: 'Join again',
    noInvitation: 'This link is not complete. Ask for the whole link of the lesson.',
  },

  lesson: {
    participants: 'People in the lesson',
    slides: (name: string) => `Slides of ${name}`,
    ownSlides: 'You are sharing your slides.',
    you: (name: string) => `${name} (you)`,
    teacher: 'teacher',
    cameraOff: 'Camera off',
    microphoneOff: 'microphone off',
    turnCameraOn: 'Turn camera on',
    turnCameraOff: 'Turn camera off',
    turnMicrophoneOn: 'Turn microphone on',
    turnMicrophoneOff: 'Turn microphone off',
    shareSlides: 'Share slides',
    stopSlides: 'Stop sharing',
    playSound: 'Turn sound on',
    leave: 'Leave',
    controls: 'Your camera, microphone and slides',
  },

  chat: {
    heading: 'Chat',
    message: 'Message',
    send: 'Send',
    you: 'You',
    notSent: 'The message was not sent. Try again.',
  },

  status: {
    admission: 'Asking to join…',
    connecting: 'Connecting…',
    connected: (others: number) =>
      others === 0 ? 'Connected. Nobody else is here yet.' : `Connected. ${others + 1} are in the lesson.`,
    reconnecting: 'The connection was lost. Trying again…',
  },

  failure: {
    unreachable: 'The server cannot be reached. Check the internet connection, then try again.',
    unexpected: 'Something went wrong. Try again.',
    invitation: 'This link is not valid, or no longer. Ask for a new one.',
    refused: 'The server refused this.',
    busy: 'The server is full or being restarted. Try again in a few minutes.',
    tooMany: 'Too many attempts. Wait a minute, then try again.',
    media: 'The server was reached, but sound and pictures cannot pass. A firewall may block UDP port 7882.',
    timeout: 'The server does not answer. Check the internet connection, then try again.',
  },

  ended: {
    left: 'You have left the lesson.',
    elsewhere: 'You joined this lesson from another window or device.',
    removed: 'You were removed from the lesson.',
    over: 'The lesson is over.',
    shutdown: 'The server is being restarted. Join again in a minute.',
    lost: 'The connection was lost.',
  },

  devices: {
    insecure:
      'Browsers allow camera and microphone on https pages only: open the https address of this server.',
    denied: 'The browser does not allow this page to use the camera and the microphone.',
    missing: 'No camera or microphone was found.',
    busy: 'The camera or the microphone is in use by another program.',
    failed: 'The camera or the microphone did not start.',
    notSent: 'Others may not see or hear you: the camera or the microphone could not be sent.',
    stillJoined: (problem: string) => `${problem} You can still see and hear the lesson.`,
    slides: 'The slides could not be shared.',
  },
};
