/** The SHA-256 of a file, computed by a worker. */
import HashWorker from "./hash.worker?worker";

type Told = { done?: number; digest?: string; failed?: boolean };

export function digestOf(
  file: File,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<string> {
  return new Promise((found, failed) => {
    const worker = new HashWorker();
    const end = (error?: Error) => {
      worker.terminate();
      if (error) failed(error);
    };
    const unread = () =>
      end(new Error("The file could not be read. Choose it again; it may have changed or moved."));
    signal.addEventListener("abort", () => end(new DOMException("Stopped", "AbortError")));
    worker.onerror = unread;
    worker.onmessage = ({ data }: MessageEvent<Told>) => {
      if (data.done !== undefined) onProgress(data.done);
      if (data.failed) unread();
      if (data.digest !== undefined) {
        end();
        found(data.digest);
      }
    };
    worker.postMessage(file);
  });
}
