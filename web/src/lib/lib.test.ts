import { describe, expect, test } from "vitest";
import { kept, perSecond, type Sample, series } from "../live/rates";
import { pick } from "./folder";
import { bytes, milliseconds } from "./format";
import { summary } from "./report";
import { curl, python } from "./snippets";

const sample = (at: number, tokens: number) => ({ at, values: { tokens } });

describe("rates", () => {
  test("are what grew by the second", () => {
    expect(perSecond(sample(10, 100), sample(12, 150), "tokens")).toBe(25);
  });
  test("are unknown across a new start of the engine, and of unknown counters", () => {
    expect(perSecond(sample(10, 100), sample(11, 3), "tokens")).toBeNull();
    expect(perSecond(sample(10, 100), sample(11, 103), "others")).toBeNull();
  });
  test("keep no more samples than asked, and none twice", () => {
    let samples: Sample[] = [sample(1, 1)];
    for (let at = 2; at <= 9; at += 1) samples = kept(samples, sample(at, at), 3);
    samples = kept(samples, sample(9, 99), 3);
    expect(samples.map(({ at }) => at)).toEqual([7, 8, 9]);
    expect(series(samples, ["tokens"])).toEqual([
      [7, 8, 9],
      [null, 1, 1],
    ]);
  });
});

describe("a dropped folder", () => {
  const at = (path: string) => ({ path, file: new File(["x"], path.split("/").at(-1) ?? "") });
  test("gives the two files nearest to the top", () => {
    const picked = pick([
      at("run/checkpoint-5/adapter_config.json"),
      at("run/checkpoint-5/adapter_model.safetensors"),
      at("run/adapter_model.safetensors"),
      at("run/adapter_config.json"),
      at("run/README.md"),
    ]);
    expect(picked).toMatchObject({ folder: "run" });
  });
  test("without weights says so, and says why pickles are not taken", () => {
    expect(pick([at("a/adapter_config.json")])).toContain("adapter_model.safetensors");
    expect(pick([at("a/adapter_config.json"), at("a/adapter_model.bin")])).toContain("pickled");
    expect(pick([at("a/model.safetensors")])).toContain("adapter_config.json");
  });
});

test("sizes and times have units", () => {
  expect([0, 1023, 1536, 2 ** 30].map(bytes)).toEqual(["0 B", "1023 B", "1.5 KiB", "1.0 GiB"]);
  expect([null, 1.26, 41.9, 1234, 45_600].map(milliseconds)).toEqual([
    "–",
    "1.3 ms",
    "42 ms",
    "1.23 s",
    "45.6 s",
  ]);
});

describe("snippets", () => {
  const ask = {
    chat: true,
    model: "a@1",
    prompt: "it's",
    system: "",
    params: { temperature: 0, top_k: 5 },
  };
  test("of curl survive quotes", () => {
    expect(curl(ask, "http://h")).toContain(`"content":"it'\\''s"`);
  });
  test("of Python hand extras over apart", () => {
    expect(python(ask, "http://h")).toContain('extra_body={"top_k": 5}');
    expect(python(ask, "http://h")).toContain("    temperature=0,");
  });
});

test("a report is told by kinds of modules", () => {
  const modules = ["l.0.q_proj", "l.1.q_proj", "l.0.v_proj"].map((name, i) => ({
    name,
    rank: 4 + i,
    scale: 2,
  }));
  const found = summary({ verdict: "accepted", modules, parameters: 9, size: 8, warnings: ["w"] });
  expect(found?.targets).toEqual([
    { name: "q_proj", count: 2 },
    { name: "v_proj", count: 1 },
  ]);
  expect([found?.ranks, found?.scales, found?.warnings]).toEqual(["4 to 6", "2", ["w"]]);
  expect(summary(null)).toBeNull();
});
