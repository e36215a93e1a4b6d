// Where pictures come from: the camera, and files that are chosen, dropped or pasted.

const LARGEST = 1280; // pixels of a picture's longer side; a larger one is made smaller

export class Camera {
  #stream = null;

  constructor(video) {
    this.video = video;
  }

  get on() {
    return this.#stream !== null;
  }

  // Raises an Error in words that say what to do.
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The browser gives the camera to pages of https or localhost alone. Open this page so, or choose a picture.");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 } } });
    } catch (error) {
      throw new Error(WHY_NOT[error.name] ?? `The camera does not start: ${error.message}`);
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.video.srcObject = null;
  }

  // The square in the middle of the picture, drawn on a canvas, whose context is returned.
  draw(canvas) {
    const { videoWidth, videoHeight } = this.video;
    const side = Math.min(videoWidth, videoHeight);
    canvas.width = canvas.height = Math.min(side, 480);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.video, (videoWidth - side) / 2, (videoHeight - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
    return context;
  }
}

const WHY_NOT = {
  NotAllowedError: "The camera was not allowed. Allow it in the browser's address bar, or choose a picture.",
  NotFoundError: "No camera was found. Connect one, or choose a picture.",
  NotReadableError: "Another program uses the camera. Close that, or choose a picture.",
};

// A file as a canvas, upright, and its context. Raises an Error where it is no picture.
export async function openPicture(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name || "The file"} is no picture that this browser can read. Use JPEG, PNG or WebP.`);
  });
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return context;
}

export function pixels(context) {
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

// The part of a picture that a round frame shows: [x, y, side], around the face, else in the middle.
export function view(width, height, face) {
  const least = Math.min(width, height);
  if (!face) return [(width - least) / 2, (height - least) / 2, least];
  const [x, y, w, h] = face.box;
  const side = Math.min(least, 1.9 * Math.max(w, h));
  const within = (center, length) => Math.min(Math.max(center - side / 2, 0), length - side);
  return [within(x + w / 2, width), within(y + h / 2, height), side];
}

// Calls `take` with each picture that is dropped on an element, or chosen by the file input in it.
export function takesFiles(element, input, take) {
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = "";
  });
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
