/** What is shown this once: a key, a link, a secret. */
import type { ReactNode } from "react";
import { Button, Code, CopyButton, Dialog, Note } from "@/ui/parts";

export function SecretDialog({
  title,
  warning,
  text,
  copy,
  onClose,
}: {
  title: string;
  warning: ReactNode;
  text: string;
  /** What the button that copies it says. */
  copy: string;
  onClose: () => void;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      <Note tone="warn">{warning}</Note>
      <Code text={text} />
      <div className="flex justify-end gap-2">
        <CopyButton text={text} label={copy} />
        <Button kind="primary" onClick={onClose}>
          Done
        </Button>
      </div>
    </Dialog>
  );
}
