import { describe, expect, it } from "vitest";
import { backOff, contentRange, nextPart, pace, partSize } from "./plan";
import { recall, recordKey, remember } from "./record";

const KIB = 1024;

describe("parts of an upload", () => {
  it("are a sixteenth of the file, within bounds", () => {
    expect(partSize(1)).toBe(256 * KIB);
    expect(partSize(16 * 1024 * KIB)).toBe(1024 * KIB);
    expect(partSize(16 * 1024 ** 3)).toBe(8 * 1024 * KIB);
  });
  it("cover the file once, from wherever it broke off", () => {
    const size = 1000 * KIB + 7;
    let at = 100;
    for (;;) {
      const part = nextPart(at, size);
      if (part === null) break;
      expect(part.start).toBe(at);
      expect(part.end).toBeGreaterThan(part.start);
      at = part.end;
    }
    expect(at).toBe(size);
    expect(contentRange({ start: 100, end: 200 }, 300)).toBe("bytes 100-199/300");
  });
  it("are tried again after longer and longer waits", () => {
    expect([0, 1, 2, 20].map(backOff)).toEqual([500, 1000, 2000, 30_000]);
    expect(pace(0, 10, 5)).toBeNull();
    expect(pace(500, 1000, 1000)).toEqual({ rate: 500, seconds: 2 });
  });
});

it("remembers an upload only for the same tenant, name, weights, config and alias", () => {
  const kept = new Map<string, string>();
  const store = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  const key = recordKey("acme", "poems", "ab");
  remember(store, key, { id: "7", about: "prod\n{}" });
  expect(recall(store, key, "prod\n{}")).toBe("7");
  expect(recall(store, key, "\n{}")).toBeNull();
  expect(recall(store, recordKey("other", "poems", "ab"), "prod\n{}")).toBeNull();
  kept.set(key, "broken");
  expect(recall(store, key, "prod\n{}")).toBeNull();
});
