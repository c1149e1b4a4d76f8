/** Computes the SHA-256 of a file beside the page, which stays quick. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

addEventListener("message", async ({ data: file }: MessageEvent<File>) => {
  try {
    const hash = sha256.create();
    const reader = file.stream().getReader();
    let done = 0;
    for (;;) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      hash.update(value);
      done += value.length;
      postMessage({ done });
    }
    postMessage({ digest: bytesToHex(hash.digest()) });
  } catch {
    postMessage({ failed: true });
  }
});
