/** Finds the two files of an adapter in what was dropped or chosen. */
export const CONFIG = "adapter_config.json";
export const WEIGHTS = "adapter_model.safetensors";

export interface AdapterFiles {
  config: File;
  weights: File;
  /** Name of their folder, a first idea of a name for the adapter. */
  folder: string;
}

/** The two files, or a sentence that says what is missing. Checkpoints of a training run lie in folders of their own:
 * of several the one nearest to the top counts. */
export function pick(files: { file: File; path: string }[]): AdapterFiles | string {
  const depth = (path: string) => path.split("/").length;
  const nearest = (name: string) =>
    files
      .filter(({ path }) => path.split("/").at(-1) === name)
      .sort((a, b) => depth(a.path) - depth(b.path))[0];
  const config = nearest(CONFIG);
  if (config === undefined) {
    return `There is no ${CONFIG}. Choose the folder that PEFT's save_pretrained wrote.`;
  }
  const beside = config.path.slice(0, -CONFIG.length);
  const weights = files.find(({ path }) => path === beside + WEIGHTS);
  if (weights === undefined) {
    const pickled = files.some(({ path }) => /\.(bin|pt|pth)$/.test(path));
    return pickled
      ? "The weights are pickled, which can run code and is not accepted. Save them with safe_serialization=True."
      : `There is no ${WEIGHTS} beside ${CONFIG}.`;
  }
  return { config: config.file, weights: weights.file, folder: beside.split("/").at(-2) ?? "" };
}

/** Everything below what was dropped, folders included. */
export async function dropped(
  items: DataTransferItemList,
): Promise<{ file: File; path: string }[]> {
  const entries = [...items]
    .map((item) => item.webkitGetAsEntry())
    .filter((entry) => entry !== null);
  return (await Promise.all(entries.map(below))).flat();
}

async function below(entry: FileSystemEntry): Promise<{ file: File; path: string }[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((done, failed) =>
      (entry as FileSystemFileEntry).file(done, failed),
    );
    return [{ file, path: entry.fullPath.slice(1) }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const all: FileSystemEntry[] = [];
  // A reader gives a hundred at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, failed) =>
      reader.readEntries(done, failed),
    );
    if (some.length === 0) break;
    all.push(...some);
  }
  return (await Promise.all(all.map(below))).flat();
}
