/** What a million tokens of each base model cost; operators set it. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { useMe } from "@/session";
import { Button, Dialog, Failure, Field, Panel, Waiting } from "@/ui/parts";

type Price = Schemas["PriceOut"];
const PARTS = [
  { name: "input", label: "Prompt" },
  { name: "cached_input", label: "Cached prompt" },
  { name: "output", label: "Output" },
] as const;

export function Prices({ currency }: { currency: string }) {
  const me = useMe();
  const [edited, setEdited] = useState<Price | null>(null);
  const prices = useQuery({
    queryKey: ["prices"],
    queryFn: () => need(api.GET("/api/v1/prices")),
  });
  return (
    <Panel flush title="Prices" note={`${currency} per million tokens`}>
      <Failure error={prices.error} />
      {prices.isPending && <Waiting rows={2} />}
      {prices.data && (
        <table className="grid-table">
          <thead>
            <tr>
              <th>Base model</th>
              {PARTS.map(({ name, label }) => (
                <th key={name} className="num">
                  {label}
                </th>
              ))}
              {me.user.is_operator && <th className="num">Change</th>}
            </tr>
          </thead>
          <tbody>
            {prices.data.data.map((price) => (
              <tr key={price.base}>
                <td className="font-medium">{price.base}</td>
                {PARTS.map(({ name }) => (
                  <td key={name} className="num">
                    {price.is_set ? price[name] : "free"}
                  </td>
                ))}
                {me.user.is_operator && (
                  <td className="num">
                    <Button
                      aria-label={`Set price of ${price.base}`}
                      onClick={() => setEdited(price)}
                    >
                      Set price
                    </Button>
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {edited && <Edit price={edited} currency={currency} onClose={() => setEdited(null)} />}
    </Panel>
  );
}

function Edit({
  price,
  currency,
  onClose,
}: {
  price: Price;
  currency: string;
  onClose: () => void;
}) {
  const queries = useQueryClient();
  const [values, setValues] = useState<Record<string, string>>(
    Object.fromEntries(PARTS.map(({ name }) => [name, price.is_set ? String(price[name]) : ""])),
  );
  const save = useMutation({
    mutationFn: () => {
      const cached = values.cached_input;
      const body = {
        input: Number(values.input),
        output: Number(values.output),
        cached_input: cached ? Number(cached) : null,
      };
      return need(
        api.PUT("/api/v1/prices/{base}", { params: { path: { base: price.base } }, body }),
      );
    },
    onSuccess: async () => {
      onClose();
      await queries.invalidateQueries({ queryKey: ["prices"] });
    },
  });
  return (
    <Dialog title={`Price of ${price.base}`} onClose={onClose}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          save.mutate();
        }}
      >
        <p className="text-muted">
          {currency} per million tokens, at most three decimals. It counts for requests from now on.
        </p>
        <div className="grid gap-3 sm:grid-cols-3">
          {PARTS.map(({ name, label }) => (
            <Field key={name} label={label}>
              {(id) => (
                <input
                  id={id}
                  type="number"
                  min={0}
                  step={0.001}
                  required={name !== "cached_input"}
                  placeholder={name === "cached_input" ? "as prompt" : ""}
                  className="field tabular-nums"
                  value={values[name]}
                  onChange={({ target }) => setValues({ ...values, [name]: target.value })}
                />
              )}
            </Field>
          ))}
        </div>
        <Failure error={save.error} />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" disabled={save.isPending}>
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
