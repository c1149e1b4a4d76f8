/** The parameters of sampling; what is left empty is as the model has it. */
import { Field } from "@/ui/parts";

const NUMBERS = [
  { name: "max_tokens", label: "Most tokens", start: "128", step: "1", min: 1 },
  { name: "temperature", label: "Temperature", start: "0.7", step: "any", min: 0, max: 2 },
  { name: "top_p", label: "Top p", start: "1", step: "any", min: 0, max: 1 },
  { name: "top_k", label: "Top k", start: "", step: "1", min: -1 },
  { name: "seed", label: "Seed", start: "", step: "1" },
  {
    name: "repetition_penalty",
    label: "Repetition penalty",
    start: "",
    step: "any",
    min: 0,
    max: 2,
  },
  {
    name: "frequency_penalty",
    label: "Frequency penalty",
    start: "",
    step: "any",
    min: -2,
    max: 2,
  },
  { name: "presence_penalty", label: "Presence penalty", start: "", step: "any", min: -2, max: 2 },
] as const;
// The most that completions give.
const ALTERNATIVES = 5;

export interface Values {
  numbers: Record<string, string>;
  stop: string;
  logprobs: boolean;
}

export const START: Values = {
  numbers: Object.fromEntries(NUMBERS.map(({ name, start }) => [name, start])),
  stop: "",
  logprobs: true,
};

/** The fields of a request. */
export function fieldsOf({ numbers, stop, logprobs }: Values, chat: boolean) {
  const set = Object.entries(numbers).filter(([, value]) => value.trim() !== "");
  const fields: Record<string, unknown> = Object.fromEntries(
    set.map(([name, value]) => [name, Number(value)]),
  );
  if (stop) fields.stop = stop.replaceAll("\\n", "\n");
  if (logprobs && chat) Object.assign(fields, { logprobs: true, top_logprobs: ALTERNATIVES });
  if (logprobs && !chat) fields.logprobs = ALTERNATIVES;
  return fields;
}

export function Parameters({
  values,
  onChange,
}: {
  values: Values;
  onChange: (values: Values) => void;
}) {
  return (
    <div className="panel grid grid-cols-2 gap-3 self-start p-4 lg:grid-cols-1">
      <h2 className="col-span-full">Parameters</h2>
      {NUMBERS.map(({ name, label, start, ...range }) => (
        <Field key={name} label={label}>
          {(id) => (
            <input
              id={id}
              type="number"
              placeholder="as the model has it"
              className="field tabular-nums"
              value={values.numbers[name]}
              onChange={({ target }) =>
                onChange({ ...values, numbers: { ...values.numbers, [name]: target.value } })
              }
              {...range}
            />
          )}
        </Field>
      ))}
      <Field label="Stop at" hint="Write a line break as \n.">
        {(id) => (
          <input
            id={id}
            className="field"
            value={values.stop}
            onChange={({ target }) => onChange({ ...values, stop: target.value })}
          />
        )}
      </Field>
      <label className="flex items-center gap-2">
        <input
          type="checkbox"
          className="accent-accent"
          checked={values.logprobs}
          onChange={({ target }) => onChange({ ...values, logprobs: target.checked })}
        />
        Token probabilities
      </label>
    </div>
  );
}
